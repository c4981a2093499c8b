// The button that switches between light and dark.

function startTheme() {
  const button = find("#theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let theme = null;
  try {
    theme = localStorage.getItem("agcam-theme"); // some browsers keep nothing for files
  } catch {}
  const showTheme = () => {
    const isDark = theme ? theme === "dark" : dark.matches;
    if (theme) document.documentElement.dataset.theme = theme;
    button.textContent = isDark ? "Light" : "Dark";
    button.setAttribute("aria-label", isDark ? "Switch to light colors" : "Switch to dark colors");
    button.setAttribute("aria-pressed", String(isDark));
  };
  button.addEventListener("click", () => {
    theme = (theme ? theme === "dark" : dark.matches) ? "light" : "dark";
    try {
      localStorage.setItem("agcam-theme", theme);
    } catch {}
    showTheme();
  });
  dark.addEventListener("change", showTheme);
  showTheme();
}
