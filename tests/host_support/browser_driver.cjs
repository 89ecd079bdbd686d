// Drives ComfyUI's own frontend in a real browser: one JSON request a line on stdin, one answer a
// line on stdout. The first line says where; see tests/host_support/browser.py.
"use strict";

const readline = require("node:readline");
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
const PATIENCE = 180000; // ms; a busy computer is slow to serve the frontend
// Newer frontends put the test id on the button itself.
const RUN = 'button[data-testid="queue-button"], [data-testid="queue-button"] button >> nth=0';
const CANCEL = 'button[aria-label="Cancel current run"]';
// The canvas's own menus, and those of Nodes 2.0.
const MENUS = [".litecontextmenu", ".p-contextmenu-root-list", ".p-contextmenu-submenu"]
  .map((menu) => `${menu}:visible`)
  .join(", ");
const ENTRIES = ".litemenu-entry, .p-contextmenu-item";

// The functions from here to "main" marked (page) run inside the page.

// (page)
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
      needs: [...n.computeSize()], // an older frontend's is a Float32Array
    })),
    api: twin.output,
  };
}

// (page) Sets widgets as a hand does: with the widget's own callback.
function set(changes) {
  for (const [id, values] of Object.entries(changes)) {
    const node = window.app.graph.getNodeById(Number(id));
    for (const [name, value] of Object.entries(values)) {
      // a widget that a subgraph shows is called "<inner node>: <name>"
      const called = (w) => w.name === name || w.name.endsWith(`: ${name}`);
      const widget = node.widgets.find(called);
      widget.value = value;
      widget.callback?.(widget.value, window.app.canvas, node, node.pos);
    }
  }
  window.dispatchEvent(new MouseEvent("mouseup")); // the frontend then notes what to save
}

// (page) The widgets' values, by node and name.
function values() {
  const ours = window.app.graph.nodes.filter((n) => n.widgets?.length);
  const of = (node) => Object.fromEntries(node.widgets.map((w) => [w.name, w.value]));
  return Object.fromEntries(ours.map((n) => [n.id, of(n)]));
}

// (page) The last text that each node was sent while it ran; the widget is the frontend's.
function texts() {
  const shown = {};
  for (const node of window.app.graph.nodes) {
    const widget = node.widgets?.find((w) => w.name === "$$node-text-preview");
    if (widget) shown[node.id] = widget.value;
  }
  return shown;
}

// (page) What the frontend's search for nodes lists, the best first.
function searched(words) {
  const { $pinia } = document.querySelector("#vue-app").__vue_app__.config.globalProperties;
  const found = $pinia._s.get("nodeDef").nodeSearchService.searchNode(words, [], { limit: 10 });
  return found.map((node) => node.name);
}

// (page) Notes how the next run ends, before it is queued.
function watch({ timeout, node }) {
  const { api } = window.app;
  const before = window.app.lastNodeErrors; // of an earlier run
  const watched = { stepped: false };
  watched.end = new Promise((resolve) => {
    const late = setTimeout(() => end({ type: "timeout" }), timeout);
    const look = setInterval(() => {
      const faults = window.app.lastNodeErrors ?? {};
      if (faults !== before && Object.keys(faults).length) end({ type: "refused", detail: faults });
    }, 200);
    function end({ type, detail }) {
      clearTimeout(late);
      clearInterval(look);
      resolve({ event: type, detail });
    }
    for (const type of ["execution_success", "execution_error", "execution_interrupted"]) {
      api.addEventListener(type, end, { once: true });
    }
  });
  // a step of that node: from here on there is work to lose
  api.addEventListener("progress", ({ detail }) => {
    if (detail.node === String(node) && detail.value >= 1) watched.stepped = true;
  });
  window.watched = watched;
}

// (page) How many pictures each node shows that is not folded, and how wide those are; null while
// one is still loading.
function pictures() {
  const [shown, wide] = [{}, {}];
  for (const [id, output] of Object.entries(window.app.nodeOutputs)) {
    if (!output.images?.length) continue;
    const node = window.app.graph.getNodeById(Number(id));
    if (node?.flags.collapsed) continue;
    const drawn = node?.imgs ?? []; // on the canvas
    const images = [...drawn, ...document.querySelectorAll(`[data-node-id="${id}"] img`)];
    if (!images.length || !images.every((i) => i.complete && i.naturalWidth > 0)) return null;
    shown[id] = images.length;
    wide[id] = images.map((i) => i.naturalWidth);
  }
  return { pictures: shown, wide };
}

// (page) Brings the nodes into view, all of them or those named; where they are in the window.
function fit(ids) {
  const wanted = ids?.map(String); // newer frontends name nodes by texts
  const chosen = window.app.graph.nodes.filter((n) => !ids || wanted.includes(String(n.id)));
  const boxes = chosen.map((n) => [n.pos[0], n.pos[1] - 80, ...n.size]);
  const left = Math.min(...boxes.map((b) => b[0])) - 30;
  const top = Math.min(...boxes.map((b) => b[1])) - 30;
  const width = Math.max(...boxes.map((b) => b[0] + b[2])) + 30 - left;
  const height = Math.max(...boxes.map((b) => b[1] + b[3] + 80)) + 30 - top;
  const view = window.app.canvas.ds;
  const scale = Math.min((window.innerWidth - 80) / width, (window.innerHeight - 110) / height);
  view.scale = scale;
  view.offset = [60 / scale - left, 90 / scale - top];
  window.app.canvas.setDirty(true, true);
  return { x: 60, y: 90, width: width * scale, height: height * scale };
}

// (page) Where nodes and groups are and how big they have become, on the graph's own scale.
function boxes() {
  const { nodes, groups } = window.app.graph;
  return {
    nodes: nodes.map((n) => ({
      id: n.id,
      type: n.type,
      box: [n.pos[0], n.pos[1] - 30, n.size[0], n.size[1] + 30],
    })),
    groups: groups.map((g) => ({ title: g.title, box: [...g.pos, ...g.size] })),
  };
}

// (page) Brings a node's title to a free place of the window, and says where.
function titleOf(id) {
  const node = window.app.graph.getNodeById(Number(id));
  const { canvas, ds } = window.app.canvas;
  ds.scale = 1;
  ds.offset = [500 - node.pos[0], 300 - node.pos[1]];
  window.app.canvas.setDirty(true, true);
  const box = canvas.getBoundingClientRect();
  return { x: box.x + 560, y: box.y + 285 };
}

async function start(context, url) {
  const page = context.pages()[0] ?? (await context.newPage());
  page.setDefaultTimeout(PATIENCE);
  // without it the first visit opens the templates over the canvas
  const settings = { "Comfy.TutorialCompleted": true, "Comfy.Minimap.Visible": false };
  await page.request.post(`${url}/settings`, { data: settings });
  await page.addInitScript(() => localStorage.setItem("vueNodesBannerDismissed", "true"));
  await page.goto(url, { waitUntil: "domcontentloaded" });
  await ready(page);
  return page;
}

async function ready(page) {
  await page.waitForFunction(
    () =>
      window.app?.graph &&
      window.app.extensionManager &&
      document.querySelector("#graph-canvas") &&
      document.querySelector('[data-testid="queue-button"]'),
  );
  await page.waitForTimeout(2000); // the frontend restores its last graph after it is ready
}

async function closeDialogs(page) {
  for (let i = 0; i < 3 && (await page.locator(".p-dialog").count()); i++) {
    await page.keyboard.press("Escape");
    await page.waitForTimeout(400);
  }
}

const requests = {
  async open(page, { workflow }) {
    const found = await page.evaluate(load, workflow);
    await page.waitForTimeout(500);
    const dialogs = await page.locator(".p-dialog").allInnerTexts();
    await closeDialogs(page);
    await page.evaluate(fit, null);
    return { ...found, dialogs };
  },

  async set(page, { changes }) {
    await page.evaluate(set, changes);
    return {};
  },

  async values(page) {
    return { values: await page.evaluate(values) };
  },

  // Presses Run and waits for the end; presses Cancel at the first step of the node `cancel_at`.
  async run(page, { timeout, cancel_at: node }) {
    await page.evaluate(() => (window.app.nodeOutputs = {}));
    await page.evaluate(watch, { timeout, node });
    await page.locator(RUN).click();
    if (node) {
      await page.waitForFunction(() => window.watched.stepped, null, { timeout });
      await page.locator(CANCEL).click();
    }
    const run = await page.evaluate(() => window.watched.end);
    if (run.event === "timeout") await page.evaluate(() => window.app.api.interrupt());
    await page.waitForTimeout(300);
    await closeDialogs(page);
    return { run };
  },

  async pictures(page) {
    const found = await page.waitForFunction(pictures);
    return found.jsonValue();
  },

  // On an empty canvas: makes a node, presses its question mark, reads the page that opens.
  async help(page, { type, title }) {
    await page.evaluate((name) => {
      const { graph, canvas } = window.app;
      graph.clear();
      const node = window.LiteGraph.createNode(name);
      graph.add(node);
      canvas.ds.scale = 0.5; // the buttons stand above the node, and some nodes are tall
      canvas.selectItems([node]);
      canvas.centerOnNode(node);
    }, type);
    await page.locator('[data-testid="info-button"]').click();
    const content = page.locator(".node-help-content");
    await content.locator("h1", { hasText: title }).first().waitFor({ timeout: 60000 });
    await page.waitForFunction(() =>
      [...document.querySelectorAll(".node-help-content img")].every((i) => i.complete),
    );
    return {
      text: await content.innerText(),
      images: await content.locator("img").evaluateAll((all) => all.map((i) => i.naturalWidth)),
    };
  },

  // Chooses a setting of the frontend (its language, Nodes 2.0) and loads the page anew.
  async setting(page, { name, value }) {
    const set = ([key, wish]) => window.app.extensionManager.setting.set(key, wish);
    await page.evaluate(set, [name, value]);
    await page.reload({ waitUntil: "domcontentloaded" });
    await ready(page);
    return {};
  },

  // Saves under a name as the menu does, loads the page anew, opens the saved file.
  async reopen(page, { name }) {
    await page.evaluate(() => {
      window.app.extensionManager.command.execute("Comfy.SaveWorkflow"); // asks for the name
    });
    const asked = page.locator(".prompt-dialog-content input");
    await asked.fill(name);
    await asked.press("Enter");
    const saved = `workflows/${name}.json`;
    await page.waitForFunction(
      async (file) => (await window.app.api.getUserData(file)).status === 200,
      saved,
    );
    await page.reload({ waitUntil: "domcontentloaded" });
    await ready(page);
    await page.evaluate(async (file) => {
      const answer = await window.app.api.getUserData(file);
      await window.app.loadGraphData(await answer.json());
    }, saved);
    return {};
  },

  // Right-clicks a node's title and goes down its menu; returns the menu's lines, and what is told.
  async menu(page, { node, path }) {
    const at = await page.evaluate(titleOf, node);
    await page.waitForTimeout(500); // the canvas is drawn where it was moved to
    await page.mouse.click(at.x, at.y, { button: "right" });
    const menus = page.locator(MENUS);
    await menus.first().waitFor({ timeout: 30000 });
    let offered = [];
    for (const label of path) {
      const open = await menus.count();
      const entries = menus.nth(open - 1).locator(ENTRIES);
      offered = await entries.allInnerTexts();
      const entry = entries.filter({ hasText: label }).first();
      await entry.hover(); // opens the submenu in Nodes 2.0, where a click would close it again
      await page.waitForTimeout(500);
      if ((await menus.count()) === open) await entry.click();
    }
    await page.waitForTimeout(500);
    const told = await page.locator(".p-toast-message").allInnerTexts();
    return { offered, told };
  },

  // The texts that the running or run nodes show, by node.
  async texts(page) {
    return { texts: await page.evaluate(texts) };
  },

  async search(page, { words }) {
    return { found: await page.evaluate(searched, words) };
  },

  async boxes(page) {
    return page.evaluate(boxes);
  },

  async refresh(page) {
    await page.evaluate(() => window.app.refreshComboInNodes());
    return {};
  },

  // Of the window, or of the nodes alone that are named.
  async screenshot(page, { path, nodes }) {
    const clip = await page.evaluate(fit, nodes ?? null);
    await page.waitForTimeout(1200);
    await page.screenshot({ path, ...(nodes ? { clip } : {}) });
    return {};
  },
};

async function main() {
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const job = JSON.parse((await lines.next()).value);
  const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
  const context = await chromium.launchPersistentContext(job.profile, {
    executablePath: job.chromium,
    args: FLAGS,
    viewport: { width: job.width, height: job.height },
  });
  let errors = [];
  const page = await start(context, job.url);
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(`${message.location().url}: ${message.text()}`);
  });
  page.on("pageerror", (error) => errors.push(String(error.stack)));
  say({ ready: true });
  for await (const line of lines) {
    const { command, ...words } = JSON.parse(line);
    try {
      const answer = await requests[command](page, words);
      say({ ...answer, errors });
    } catch (error) {
      say({ failed: `${command}: ${error.stack}` });
    }
    errors = [];
  }
  await context.close();
}

main().catch((error) => {
  process.stdout.write(`${JSON.stringify({ failed: error.stack })}\n`);
  process.exit(1);
});
