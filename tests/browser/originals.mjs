// Runs peers of npm's `uhst` in this process and in headless Chromiums. Lines of JSON control them.
//
//   node tests/browser/originals.mjs CHROMIUM
//
// Standard input takes one command per line. Standard output reports events:
//
//   {"peer":"a","start":"host","in":"chromium","transport":"webrtc","relay":"http://…/","id":"x"}
//   {"peer":"a","send":{"text":"hi"}}    {"peer":"a","send":{"bytes":[1,2]}}    {"peer":"a","close":true}
//   → {"peer":"a","event":"ready"}       open, close, error, mistake, message with "text" or "bytes"
//
// With "slow":3000, messages of this peer over the relay are delayed by three seconds.
//
// `in` is `node`, `chromium` or `chromium-mdns`. The last one hides addresses behind mDNS names, as Chromium does by
// default. A host exchanges messages with the first client that connects. A mistake is an unhandled rejection, which
// would end a process of node, or an error of the page. Packages come from NODE_PATH.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const packages = createRequire(`${process.env.NODE_PATH}/x.js`);
const BUNDLE = packages.resolve("uhst/uhst.umd.js");
const executablePath = process.argv[2];

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

/** Creates a peer with `uhst` as a game does. Runs in node, and as text in pages. */
function makePeer(uhst, { peer, start, transport, relay, id, slow }, say) {
  const tell = (event, more = {}) => say({ peer, event, ...more });
  const options = { relayUrl: relay };
  // Without servers, nothing leaves this machine.
  if (transport === "webrtc") options.socketProvider = new uhst.WebRTCSocketProvider({ iceServers: [] });
  const api = new uhst.UHST(options);
  if (slow) {
    const { relayClient } = api;
    const sendMessage = relayClient.sendMessage.bind(relayClient);
    relayClient.sendMessage = async (...args) => {
      await new Promise((resolve) => setTimeout(resolve, slow));
      return sendMessage(...args);
    };
  }
  const heard = (data) => (typeof data === "string" ? { text: data } : { bytes: [...new Uint8Array(data)] });
  let socket;
  const watch = (which) => {
    socket = which;
    which.on("open", () => tell("open"));
    which.on("message", (data) => tell("message", data === undefined ? { text: null } : heard(data)));
    which.on("close", () => tell("close"));
    which.on("error", (error) => tell("error", { text: `${error?.name}: ${error?.message}` }));
  };
  if (start === "host") {
    const host = api.host(id);
    host.on("ready", () => tell("ready"));
    host.on("error", (error) => tell("error", { text: `${error?.name}: ${error?.message}` }));
    host.on("connection", (which) => socket ?? watch(which));
  } else {
    watch(api.join(id));
  }
  return {
    send: ({ text, bytes }) => socket.send(text ?? new Uint8Array(bytes).buffer),
    close: () => socket.close(),
  };
}

/** Starts a peer in this process. */
function inNode(command) {
  globalThis.EventSource ??= packages("eventsource").EventSource;
  Object.assign(globalThis, packages("@roamhq/wrtc"));
  const peer = makePeer(packages(BUNDLE), command, say);
  return { send: peer.send, close: peer.close };
}

const browsers = new Map();
const empty = createServer((_, response) => response.end("<!doctype html>")).listen(0, "127.0.0.1");

function browser(hidesAddresses) {
  if (!browsers.has(hidesAddresses)) {
    const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
    args.push("--disable-component-update", "--disable-sync");
    if (!hidesAddresses) args.push("--disable-features=WebRtcHideLocalIpsWithMdns");
    browsers.set(hidesAddresses, packages("playwright-core").chromium.launch({ executablePath, headless: true, args }));
  }
  return browsers.get(hidesAddresses);
}

/** Starts a peer in a browser context of its own, since a context has only six connections to one relay. */
async function inChromium(command) {
  const context = await (await browser(command.in === "chromium-mdns")).newContext();
  const page = await context.newPage();
  page.on("pageerror", (error) => say({ peer: command.peer, event: "mistake", text: error.message }));
  await page.exposeFunction("say", say);
  await page.goto(`http://127.0.0.1:${empty.address().port}/`);
  await page.addScriptTag({ path: BUNDLE });
  await page.evaluate(`window.peer = (${makePeer})(uhst, ${JSON.stringify(command)}, say); undefined`);
  return {
    send: (what) => page.evaluate((what) => window.peer.send(what), what),
    close: () => page.evaluate(() => window.peer.close()),
  };
}

process.on("unhandledRejection", (error) => say({ peer: "node", event: "mistake", text: `${error?.message}` }));

const peers = new Map();
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const { peer } = command;
  // The commands of one peer run one after the other, since parallel sends of an original overtake each other.
  const before = peers.get(peer) ?? Promise.resolve();
  const next = before.then(async (it) => {
    if (command.start) return command.in === "node" ? inNode(command) : inChromium(command);
    if (command.send) await it.send(command.send);
    if (command.close) await it.close();
    return it;
  });
  peers.set(peer, next);
  next.catch((error) => say({ peer, event: "mistake", text: error.message }));
}
await Promise.allSettled([...browsers.values()].map(async (browser) => (await browser).close()));
process.exit(0);
