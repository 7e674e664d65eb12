// The frontier: a point of the picture or a line of the table, and how to make that network.
(() => {
  const box = document.getElementById("chosen-point");
  if (!box) return;
  const points = [...document.querySelectorAll("[data-point]")];
  const buttons = [...document.querySelectorAll("[data-choose]")];

  function choose(number) {
    for (const point of points) {
      point.setAttribute("aria-pressed", String(point.dataset.point === number));
    }
    for (const line of document.querySelectorAll("[data-line]")) {
      line.classList.toggle("picked", line.dataset.line === number);
    }
    const point = points.find((each) => each.dataset.point === number);
    const how = document.querySelector(`[data-how="${number}"] td`);
    const name = document.createElement("p");
    const made = document.createElement("p");
    name.className = "lead";
    name.textContent = point.getAttribute("aria-label");
    made.append("Made by ", ...[...how.childNodes].map((node) => node.cloneNode(true)));
    box.replaceChildren(name, made);
  }

  for (const point of points) {
    point.addEventListener("click", () => choose(point.dataset.point));
    point.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose(point.dataset.point);
    });
  }
  for (const button of buttons) button.addEventListener("click", () => choose(button.dataset.choose));
  const first = document.querySelector("[data-chosen]");
  if (first) choose(first.dataset.line);
  document.documentElement.classList.add("scripted");
})();
