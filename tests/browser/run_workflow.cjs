// Loads a workflow into ComfyUI's own frontend, queues it, waits, takes a screenshot.
// One JSON argument on stdin, one JSON answer on stdout; see tests/test_browser.py.
"use strict";

const { chromium } = require("playwright-core");

const FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

async function readStdin() {
  let text = "";
  for await (const part of process.stdin) text += part;
  return JSON.parse(text);
}

// Runs inside the page.
async function load(workflow) {
  await window.app.loadGraphData(workflow);
  const known = Object.keys(window.LiteGraph.registered_node_types);
  const nodes = window.app.graph.nodes;
  const twin = await window.app.graphToPrompt();
  return {
    missing: nodes.map((n) => n.type).filter((type) => !known.includes(type)),
    nodes: nodes.map((n) => ({
      id: n.id,
      type: n.type,
      box: [n.pos[0], n.pos[1] - 30, n.size[0], n.size[1] + 30],
      needs: n.computeSize(),
    })),
    api: twin.output,
  };
}

// Runs inside the page.
function queue({ changes, timeout }) {
  for (const [id, values] of Object.entries(changes)) {
    const node = window.app.graph.getNodeById(Number(id));
    for (const [name, value] of Object.entries(values)) {
      // a widget that a subgraph shows is called "<inner node>: <name>"
      const called = (widget) => widget.name === name || widget.name.endsWith(`: ${name}`);
      node.widgets.find(called).value = value;
    }
  }
  return new Promise((resolve) => {
    const late = setTimeout(() => resolve({ event: "timeout" }), timeout);
    const end = (event) => (message) => {
      clearTimeout(late);
      resolve({ event, detail: message.detail });
    };
    for (const event of ["execution_success", "execution_error", "execution_interrupted"]) {
      window.app.api.addEventListener(event, end(event), { once: true });
    }
    window.app.queuePrompt(0, 1).then(() => {
      const faults = window.app.lastNodeErrors ?? {};
      if (Object.keys(faults).length) end("refused")({ detail: faults });
    });
  });
}

// Runs inside the page: the whole graph in view.
function fit() {
  const boxes = window.app.graph.nodes.map((n) => [n.pos[0], n.pos[1] - 80, ...n.size]);
  const left = Math.min(...boxes.map((b) => b[0])) - 30;
  const top = Math.min(...boxes.map((b) => b[1])) - 30;
  const width = Math.max(...boxes.map((b) => b[0] + b[2])) + 30 - left;
  const height = Math.max(...boxes.map((b) => b[1] + b[3] + 80)) + 30 - top;
  const view = window.app.canvas.ds;
  const scale = Math.min((window.innerWidth - 80) / width, (window.innerHeight - 110) / height);
  view.scale = scale;
  view.offset = [60 / scale - left, 90 / scale - top];
  window.app.canvas.setDirty(true, true);
}

async function main() {
  const job = await readStdin();
  const context = await chromium.launchPersistentContext(job.profile, {
    executablePath: job.chromium,
    args: FLAGS,
    viewport: { width: job.width, height: job.height },
  });
  const errors = [];
  try {
    const page = context.pages()[0] ?? (await context.newPage());
    page.on("console", (message) => {
      if (message.type() === "error") errors.push(`${message.location().url}: ${message.text()}`);
    });
    page.on("pageerror", (error) => errors.push(String(error.stack)));
    page.setDefaultTimeout(180000); // a busy computer is slow to serve the frontend
    await page.goto(job.url, { waitUntil: "domcontentloaded" });
    await page.waitForFunction(
      () =>
        window.app?.graph &&
        window.app.extensionManager &&
        document.querySelector("#graph-canvas"),
      null,
      { timeout: 180000 },
    );
    await page.waitForTimeout(2000); // the frontend restores its last graph after it is ready
    const loaded = await page.evaluate(load, job.workflow);
    await page.evaluate(fit);
    await page.waitForTimeout(1500);
    await page.screenshot({ path: job.before });
    const run = await page.evaluate(queue, { changes: job.changes, timeout: job.timeout });
    await page.waitForTimeout(2500);
    await page.evaluate(fit);
    await page.waitForTimeout(1500);
    await page.screenshot({ path: job.after });
    process.stdout.write(JSON.stringify({ ...loaded, run, errors }));
  } finally {
    await context.close();
  }
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
