// Draws the charts that can be read off with a pointer. Their numbers stand in the tables behind them as well.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("chart-data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const charts = [];

  Chart.defaults.font = { family: getComputedStyle(document.body).fontFamily, size: 13 };

  // Okabe and Ito's colours, which people with any colour vision tell apart; shapes tell too.
  const series = (number) => ({
    colour: ["#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#0072b2", "#b8ab16", "#999999"][number % 8],
    shape: ["circle", "triangle", "rectRot", "rect", "star", "crossRot"][number % 6],
  });

  const scale = (options) => ({
    grid: { color: colour("--line") }, ticks: { color: colour("--soft"), maxRotation: 0 },
    title: { color: colour("--soft"), display: Boolean(options.text), text: options.text }, ...options,
  });

  const weekly = () => ({
    type: "line",
    data: {
      labels: data.weeks.map((week) => week.week),
      datasets: [{
        data: data.weeks.map((week) => week.active_users), borderColor: colour("--accent"),
        backgroundColor: colour("--accent"), borderWidth: 2, pointRadius: data.weeks.length > 60 ? 1 : 2.5,
        pointHitRadius: 20, tension: 0, spanGaps: false,
      }],
    },
    options: {
      interaction: { mode: "index", intersect: false }, plugins: { legend: { display: false } },
      scales: { x: scale({ grid: { display: false } }), y: scale({ beginAtZero: true }) },
    },
  });

  const map = () => ({
    type: "bubble",
    data: {
      datasets: Object.entries(data.map).map(([segment, points], number) => ({
        label: segment.replaceAll("_", " "), pointStyle: series(number).shape,
        borderColor: series(number).colour, backgroundColor: series(number).colour + "66",
        data: points.map((point) => ({ ...point, r: 3 + 2 * Math.log10(point.users) })),
      })),
    },
    options: {
      plugins: {
        legend: { position: "bottom", labels: { color: colour("--ink"), usePointStyle: true, boxHeight: 7 } },
        tooltip: { callbacks: { label: ({ raw }) => `${raw.query}: ${raw.users.toLocaleString("en")} users` } },
      },
      scales: { x: { display: false, min: -0.03, max: 1.03 }, y: { display: false, min: -0.05, max: 1.05 } },
    },
  });

  const draw = (name, make) => {
    const canvas = document.getElementById(name);
    if (!canvas) return;
    const made = make();
    made.options = { ...made.options, animation: false, responsive: true, maintainAspectRatio: false };
    charts.push(new Chart(canvas, made));
  };

  const drawAll = () => {
    while (charts.length) charts.pop().destroy();
    draw("weekly-chart", weekly);
    draw("query-map", map);
  };

  document.documentElement.classList.add("drawn");
  drawAll();
  dark.addEventListener("change", drawAll);

  // Paper is white and narrow, and nothing on it can be unfolded.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((each) => { each.open = true; });
    document.documentElement.classList.add("printing");
    drawAll();
  });
  addEventListener("afterprint", () => {
    folded.forEach((each) => { each.open = false; });
    document.documentElement.classList.remove("printing");
    drawAll();
  });
})();
