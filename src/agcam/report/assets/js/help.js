// Every “?” opens an explanation beside it; Esc or a click elsewhere closes it.

const tip = find("#tip");
let asked = null; // the button whose words are shown, and how far down it was then
let height = 0;

const why = (text) =>
  text ? make("button", { type: "button", className: "why", "data-why": text, "aria-label": "What is this?" }, "?") : null;

function closeTip() {
  if (tip.matches(":popover-open")) tip.hidePopover();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.(".why");
  if (!button) return;
  event.preventDefault();
  closeTip();
  tip.textContent = button.dataset.why;
  // inside of an open dialog the rest of the page is out of reach for screen readers
  (button.closest("dialog") ?? document.body).append(tip);
  tip.showPopover();
  const place = button.getBoundingClientRect();
  [asked, height] = [button, place.top];
  const left = Math.min(place.left, document.documentElement.clientWidth - tip.offsetWidth - 12);
  const below = place.bottom + 8;
  const fits = below + tip.offsetHeight < innerHeight - 8;
  tip.style.left = `${Math.max(12, left)}px`;
  tip.style.top = `${fits ? below : Math.max(8, place.top - tip.offsetHeight - 8)}px`;
  button.setAttribute("aria-describedby", "tip");
});
// the event of a scroll that ended before the click may come after it: only one that moves the button closes its words
addEventListener("scroll", () => asked && Math.abs(asked.getBoundingClientRect().top - height) > 1 && closeTip(), {
  passive: true,
  capture: true,
});
