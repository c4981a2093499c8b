"""The quick walk over a model's modules finds what torch's own finds, in its order."""

from torch import nn

from agcam.module_tree import all_modules, all_tensors, named_modules


def test_names_and_order_are_those_of_torch_with_shared_and_missing_modules() -> None:
    shared = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model = nn.Sequential(nn.Sequential(nn.ReLU(), shared), shared, nn.ModuleDict({"a": shared[0], "b": nn.GELU()}))
    model.register_module("none", None)
    assert named_modules(model) == list(model.named_modules())
    assert all_modules(model) == list(model.modules())
    found = {id(tensor) for tensor in all_tensors(model)}
    assert found == {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
