// Runs a game in pages of a headless Chromium. Lines of JSON control them.
//
//   node tests/browser/web.mjs CHROMIUM FOLDER
//
// FOLDER has the page, its JavaScript and its wasm. Standard input takes one command per line. Standard output reports
// events:
//
//   {"peer":"a","open":true}    {"peer":"a","open":true,"hides":true}    {"peer":"a","open":"http://…/#483920"}
//   {"peer":"a","command":{"join":{"link":"…"}}}    {"peer":"a","leave":"Close"}    {"peer":"a","end":true}
//   → {"peer":"a","event":"open","value":null}, then what the game reports, and mistake for an error of the page
//
// Packages come from NODE_PATH.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const packages = createRequire(`${process.env.NODE_PATH}/x.js`);
const [executablePath, folder] = process.argv.slice(2);

// The tests have ended. The browser ends with this process.
process.stdout.on("error", () => process.exit(0));
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const FILES = { "/index.html": "text/html", "/page.js": "text/javascript", "/page_bg.wasm": "application/wasm" };

const server = createServer(async (request, response) => {
  // The page of another site.
  if (request.url === "/away") return response.end("away");
  const name = FILES[request.url] ? request.url : "/index.html";
  response.setHeader("content-type", FILES[name]);
  response.end(await readFile(`${folder}${name}`));
}).listen(0, "127.0.0.1");
const origin = () => `http://127.0.0.1:${server.address().port}`;

const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
args.push("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--no-proxy-server");
args.push("--allow-loopback-in-peer-connection");
// What a player's browser does, and the driver forbids by default.
const ignoreDefaultArgs = ["--disable-back-forward-cache", "--disable-background-timer-throttling"];
ignoreDefaultArgs.push("--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding");
const launch = (more) =>
  packages("playwright-core").chromium.launch({ executablePath, headless: true, args: [...args, ...more], ignoreDefaultArgs });
const browser = launch(["--disable-features=WebRtcHideLocalIpsWithMdns"]);
// As players have it: it hides its addresses behind names of multicast DNS.
let hiding;

/**
 * Opens a page of this program's server, or of a link, in a context of its own: a context has only six connections to one
 * relay. With `beside`, the page is a tab beside that peer's. With `hides`, it tells nobody its addresses.
 */
async function open(peer, { open: link, beside, hides }) {
  const url = typeof link === "string" ? link : `${origin()}/`;
  if (hides) hiding ??= launch([]);
  const context = beside ? (await peers.get(beside)).context() : await (await (hides ? hiding : browser)).newContext();
  // With this permission, the browser offers its addresses, those of loopback too.
  if (!hides) await context.grantPermissions(["microphone"], { origin: new URL(url).origin });
  const page = await context.newPage();
  const mistake = (value) => say({ peer, event: "mistake", value });
  page.on("pageerror", (error) => mistake(error.message));
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && say({ peer, event: "console", value: message.text() }));
  await page.exposeFunction("happened", (event) => say({ peer, ...JSON.parse(event) }));
  // A page that comes back as it was, or anew.
  await page.addInitScript(() => {
    const shown = (event) => location.pathname !== "/away" && window.happened(JSON.stringify({ event: "shown", value: event.persisted }));
    window.addEventListener("pageshow", shown);
  });
  await page.goto(url);
  return page;
}

// Handlers of a page run as they do for a player.
const LEAVE = {
  Close: (page) => page.close({ runBeforeUnload: true }),
  GoAway: (page) => page.goto(`http://localhost:${server.address().port}/away`),
  GoBack: (page) => page.goBack({ waitUntil: "commit" }),
  Reload: (page) => page.reload(),
};

// The tabs in front of the hidden ones.
const fronts = new Map();

/** Puts another tab in front of a page, and counts the frames and timers that the page still gets. */
async function hide(page) {
  // The driver keeps pages in front, and has no other way to stop that.
  const session = page._connection.toImpl(page).delegate._mainFrameSession._client;
  await session.send("Emulation.setFocusEmulationEnabled", { enabled: false });
  fronts.set(page, await page.context().newPage());
  await fronts.get(page).bringToFront();
  await page.waitForFunction(() => document.visibilityState === "hidden", undefined, { polling: 50 });
  await page.evaluate(() => {
    const hidden = { frames: 0, timers: 0, since: performance.now(), last: performance.now(), longest: 0 };
    const frame = () => (hidden.frames++, requestAnimationFrame(frame));
    const timer = () => {
      const now = performance.now();
      hidden.timers++;
      [hidden.last, hidden.longest] = [now, Math.max(hidden.longest, (now - hidden.last) / 1000)];
      setTimeout(timer, 8);
    };
    requestAnimationFrame(frame), setTimeout(timer, 8);
    window.hidden = hidden;
  });
}

async function freeze(page, state) {
  const session = await page.context().newCDPSession(page);
  await session.send("Page.setWebLifecycleState", { state });
}

/** Shows a page again, and tells what it got while it was hidden. */
async function show(peer, page) {
  const hidden = await page.evaluate(() => ({ ...window.hidden, seconds: (performance.now() - window.hidden.since) / 1000 }));
  say({ peer, event: "hidden", value: hidden });
  await page.bringToFront();
  await fronts.get(page).close();
}

const TAB = {
  Hidden: (_, page) => hide(page),
  Frozen: async (_, page) => (await hide(page), await freeze(page, "frozen")),
  Thawed: (_, page) => freeze(page, "active"),
  Shown: show,
};

const peers = new Map();
for await (const line of createInterface({ input: process.stdin })) {
  const { peer, ...wanted } = JSON.parse(line);
  const next = (peers.get(peer) ?? Promise.resolve()).then(async (page) => {
    if (wanted.open) return open(peer, wanted);
    if (wanted.command) await page.evaluate((json) => window.command(json), JSON.stringify(wanted.command));
    if (wanted.tab) await TAB[wanted.tab](peer, page);
    if (wanted.tab) say({ peer, event: "tab", value: wanted.tab });
    if (wanted.offline !== undefined) await page.context().setOffline(wanted.offline);
    if (wanted.end) await page.close();
    if (wanted.leave) await LEAVE[wanted.leave](page);
    return page;
  });
  peers.set(peer, next);
  next.catch((error) => say({ peer, event: "mistake", value: error.message }));
}
for (const open of [browser, hiding]) await (await open)?.close();
process.exit(0);
