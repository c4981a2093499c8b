"""How methods come to be known: agcam's own files, decorated functions, functions at hand, installed packages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_models import GRID, random_images, small_model
from torch import Tensor

import agcam
import agcam.explainers.methods
from agcam import InputError, explain, methods, register_method
from agcam.explainers import registry
from agcam.explainers.methods.rollout import rollout
from agcam.explainers.recording import Recording
from agcam.explainers.registry import controls, find_method, is_control, registered


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    methods()
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
    monkeypatch.setattr(registry._PLUGINS, "broken", {})


def flat(recording: Recording, targets: Tensor, *, height: float = 1.0) -> Tensor:
    """Draw a constant map.

    Nothing more.
    """
    return torch.full((*targets.shape, *recording.grid), height)


def test_every_file_of_our_own_methods_registers_one() -> None:
    (folder,) = agcam.explainers.methods.__path__
    files = {path.stem for path in Path(folder).glob("*.py")} - {"__init__"}
    assert files == set(methods())
    assert methods() == sorted(files)


def test_declarations_say_what_holds() -> None:
    """Whether maps can be negative, depend on the class or on the image is seen on the maps themselves."""
    model, images = small_model(), random_images()
    assert set(controls()) == {"random", "center"}
    for name in methods():
        spec = find_method(name)
        maps = explain(model, images, "all", name, **({"steps": 4} if name == "integrated_gradients" else {})).heatmaps
        assert spec.help
        assert bool((maps < 0).any()) is spec.signed, name
        if name != "random":  # other noise for each class
            assert bool((maps[:, :1] - maps).abs().max() > 1e-6) is spec.class_specific, name
        if name == "center":
            assert torch.equal(maps[0], maps[1])


def test_a_decorated_function_is_a_method_with_all_that_it_declares() -> None:
    decorated = register_method(control=True, signed=True, class_specific=False, help="Nothing.")(flat)
    assert decorated is flat
    assert methods()[-1] == "flat"
    spec = registered("flat:height=2")
    assert spec is not None
    assert (spec.needs, spec.control, spec.signed, spec.class_specific, spec.help) == (
        "recording",
        True,
        True,
        False,
        "Nothing.",
    )
    assert spec.options == ["height"]
    assert controls()[-1] == "flat"
    assert is_control("flat:height=2")
    found = explain(small_model(), random_images(), "all", method="flat", height=3)
    assert found.method == "flat"
    assert torch.equal(found.heatmaps, torch.full((2, 5, *GRID), 3.0))
    with pytest.raises(InputError, match="flat has no option 'width'; known are height"):
        explain(small_model(), random_images(), method="flat", width=3)


def test_a_bare_decorator_declares_the_usual() -> None:
    spec = registered(register_method(flat).__name__)
    assert spec is not None
    assert (spec.needs, spec.control, spec.class_specific, spec.help) == (
        "recording",
        False,
        True,
        "Draw a constant map.",
    )


def test_a_method_that_needs_a_forward_gives_a_function_of_targets() -> None:
    forwards = []

    @register_method(needs="forward")
    def by_itself(recording: Recording) -> object:
        forwards.append(len(recording.calls))
        with torch.no_grad():
            recording.logits = recording.parts.backbone(recording.images)
        return lambda targets: targets[..., None, None].expand(-1, -1, *recording.grid)

    model, images = small_model(), random_images()
    found = explain(model, images, method="by_itself")
    assert forwards == [0]  # nothing was recorded for it
    assert torch.equal(found.targets, model(images).argmax(1, keepdim=True))
    assert torch.equal(found.heatmaps[:, 0, 0, 0].long(), found.targets[:, 0])


def test_functions_need_no_registration() -> None:
    model, images = small_model(), random_images()
    assert torch.equal(explain(model, images, method=flat).heatmaps, torch.ones(2, 1, *GRID))
    assert explain(model, images, method=flat).method == "flat"
    named = explain(model, images, 3, "explainers.unregistered:edges", width=1)
    assert named.method == "explainers.unregistered:edges"
    assert named.heatmaps[0, 0].sum() == 12
    # one that is registered keeps its declaration, however it is named
    expected = explain(model, images, method="rollout", head_fusion="max").heatmaps
    assert torch.equal(explain(model, images, method=rollout, head_fusion="max").heatmaps, expected)
    by_path = "agcam.explainers.methods.rollout:rollout"
    assert torch.equal(explain(model, images, method=by_path, head_fusion="max").heatmaps, expected)
    assert "flat" not in methods()


def test_wrong_heatmaps_are_refused_with_their_shape() -> None:
    with pytest.raises(InputError, match=r"method <lambda> must give heatmaps \(2, 1, h, w\), found \(2, 4, 4\)"):
        explain(small_model(), random_images(), method=lambda recording, targets: torch.zeros(2, 4, 4))
    with pytest.raises(InputError, match="found NoneType"):
        explain(small_model(), random_images(), method=lambda recording, targets: None)


def test_maps_of_a_strange_function_are_plain_float32() -> None:
    def strange(recording: Recording, targets: Tensor) -> Tensor:
        return torch.ones(*targets.shape, 2, 2, dtype=torch.float64, requires_grad=True)

    found = explain(small_model(), random_images(), method=strange).heatmaps
    assert found.dtype == torch.float32
    assert not found.requires_grad


def test_two_methods_of_one_name_are_refused_naming_both() -> None:
    with pytest.raises(
        InputError, match=r"agcam.explainers.methods.agcam:agcam and .*test_registry:flat are both called 'agcam'"
    ):
        register_method(name="agcam")(flat)
    register_method(flat)
    register_method(help="again, as a notebook does")(flat)
    assert find_method("flat").help == "again, as a notebook does"


@pytest.mark.parametrize("name", ["all", "two words", "a:b", "a=b", "a,b", "2d", "größe", "<lambda>"])
def test_names_that_no_command_line_or_table_can_hold_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="a method cannot be called"):
        register_method(name=name)(flat)


def test_other_needs_and_things_that_are_no_function_are_refused() -> None:
    with pytest.raises(InputError, match="needs must be 'recording' or 'forward', found 'tape'"):
        register_method(needs="tape")(flat)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"must be a function, .*GRID is a tuple"):
        find_method("explainers.small_models:GRID")
    with pytest.raises(InputError, match="must be a function"):
        explain(small_model(), random_images(), method=7)  # type: ignore[arg-type]


def test_a_label_from_a_file_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert registered("trap:function") is None
    assert not is_control("trap:function:seed=1")


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two packages as pip leaves them: one works, declared or not; one cannot be imported."""
    (tmp_path / "sound_maps.py").write_text(
        "import torch\n"
        "from agcam import register_method\n"
        "@register_method(control=True, help='Stripes.')\n"
        "def stripes(recording, targets):\n"
        "    return torch.ones(*targets.shape, *recording.grid)\n"
        "def undeclared(recording, targets):\n"
        "    return torch.zeros(*targets.shape, *recording.grid)\n"
        "def impostor(recording, targets): ...\n"
    )
    (tmp_path / "broken_maps.py").write_text("import not_there\n")
    points = {
        "sound_maps": "stripes = sound_maps:stripes\nplain = sound_maps:undeclared\nagcam = sound_maps:impostor",
        "broken_maps": "cracked = broken_maps:cracked",
    }
    for name, lines in points.items():
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[agcam.methods]\n{lines}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry._PLUGINS, "loaded", False)


@pytest.mark.usefixtures("_installed")
def test_installed_packages_add_methods_and_a_broken_one_stops_no_other() -> None:
    with pytest.warns(UserWarning, match="of the installed package") as warned:
        assert methods()[-2:] == ["stripes", "plain"]
    said = sorted(str(warning.message) for warning in warned)
    assert said[0].startswith("method 'agcam' of the installed package sound-maps cannot be loaded (InputError: ")
    assert "agcam.explainers.methods.agcam:agcam and sound_maps:impostor are both called 'agcam'" in said[0]
    assert said[1] == (
        "method 'cracked' of the installed package broken-maps cannot be loaded (ModuleNotFoundError: No module named "
        "'not_there'); update broken-maps or uninstall it"
    )
    assert controls()[-1] == "stripes"
    assert explain(small_model(), random_images(), method="plain").heatmaps.sum() == 0
    with pytest.raises(InputError, match="'cracked' of the installed package broken-maps cannot be loaded"):
        find_method("cracked")


@pytest.mark.usefixtures("_installed")
def test_our_own_methods_load_no_package() -> None:
    explain(small_model(), random_images())
    assert not registry._PLUGINS.loaded
