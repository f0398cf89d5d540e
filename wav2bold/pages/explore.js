"use strict";
// Figures that unfold below the printed ones. Nothing runs until a reader opens one: the library and the figure
// are gzipped text within the page, and asking nobody for anything is what makes the page one file.
(() => {
  const night = matchMedia("(prefers-color-scheme: dark)");
  let library;

  const unpacked = async id => {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), one => one.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };

  const load = () => library ??= unpacked("explore-library").then(text => {
    const script = document.createElement("script");
    script.textContent = text;
    document.head.append(script);
  });

  // colours are named by their use; the page has a set for the day and one for the night
  const inked = text => text.replace(/var\(--(\w+)\)/g, (_, role) =>
    getComputedStyle(document.documentElement).getPropertyValue(`--${role}`).trim());

  const draw = async details => {
    const canvas = details.querySelector(".canvas");
    try {
      await load();
      const figure = JSON.parse(inked(await unpacked(details.dataset.figure)));
      if (figure.layout.scene) {  // a brain fills a height: on a telephone it would be cut on both sides
        figure.layout.height = Math.min(460, Math.round(0.66 * canvas.clientWidth));
      }
      await Plotly.react(canvas, figure.data, figure.layout, {displaylogo: false, responsive: true});
      const choose = choice => {
        const chosen = figure.choices[choice.dataset.choice].options[choice.value];
        return Plotly.update(canvas, chosen.traces, chosen.layout);
      };
      for (const choice of details.querySelectorAll("select")) {
        choice.onchange = () => choose(choice);
        await choose(choice);
      }
      canvas.dataset.drawn = night.matches ? "dark" : "light";
    } catch (error) {
      canvas.textContent = "This browser can't draw it. The figure above and its numbers are all of it.";
      console.error(error);
    }
  };

  const all = [...document.querySelectorAll("details.explore")];
  for (const details of all) {
    details.hidden = false;
    details.addEventListener("toggle", () => {
      if (details.open && !details.querySelector(".canvas").dataset.drawn) draw(details);
    });
  }
  night.addEventListener("change", () => all.forEach(details => {
    if (details.querySelector(".canvas").dataset.drawn) draw(details);
  }));
})();
