// Runs the phone page in a headless Chromium through a visit to a running lobby, and takes a picture of it.
//
//   node tests/browser/phone.mjs LINK CHROMIUM PICTURE [HOST-INPUT [HOST-PID]]
//
// LINK is the host's join link. `?path=relay` or `?path=direct` before its # selects the path. CHROMIUM is the browser's
// program, PICTURE the PNG to write. HOST-INPUT is a named pipe for the input of the host
// (`lobby host --terminal < HOST-INPUT`): this script writes the host's lines there. Without it, somebody types them.
// HOST-PID is the host's process: it is suspended for some seconds, and the page must show that it reconnects.
// `playwright-core` comes from the working directory or from NODE_PATH.
//
// Prints every completed step, and exits with 0 only if all steps are completed.

import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { chromium } = createRequire(join(process.cwd(), "x.js"))("playwright-core");

const [link, executablePath, picture, hostInput, hostPid] = process.argv.slice(2);
if (!picture) {
  console.error("usage: node tests/browser/phone.mjs LINK CHROMIUM PICTURE [HOST-INPUT]");
  process.exit(2);
}

const NAME = "Sam";
const WORDS = "Hello from the sofa";
const ANSWER = "Hello phone! One quick round?";
const PHONE = { width: 390, height: 844 };
const PATIENCE_MS = 60_000;

const profile = mkdtempSync(join(tmpdir(), "phone-"));
// The pipe stays open, since the host leaves at the end of its input.
const pipe = hostInput ? openSync(hostInput, "w") : null;
const mistakes = [];
const shots = [];
let browser;
let page;

const done = (what) => console.log(`ok    ${what}`);

function asHost(line) {
  if (pipe === null) console.log(`host: ${line}`);
  else writeSync(pipe, `${line}\n`);
}

/** Waits until such an element is visible. */
const see = (selector) => page.locator(selector).locator("visible=true").first().waitFor();
const press = (action) => page.locator(`[data-action=${action}]`).locator("visible=true").click();
const isOn = (name) => see(`[data-page=${name}]`);
const take = async () => shots.push(await page.screenshot());

/** Returns the position of this player according to the host. */
const seen = () => page.evaluate(() => ({ ...document.querySelector("[data-arena]").dataset }));
const seenElsewhere = ({ seenX, seenY }) =>
  page.waitForFunction(
    ([x, y]) => {
      const now = document.querySelector("[data-arena]").dataset;
      return Math.hypot(now.seenX - x, now.seenY - y) > 1;
    },
    [seenX, seenY],
  );

async function enter() {
  await press("join");
  await page.locator("[data-page=lobby], [data-page=arena], [data-notice]:not([hidden])").locator("visible=true").first().waitFor();
  const notice = page.locator("[data-notice]");
  if (await notice.isVisible()) throw new Error(`the page says: ${await notice.textContent()}`);
}

async function visit() {
  await page.goto(link);
  await see("[data-form=join]");
  await page.fill("[data-field=name]", NAME);
  await take();
  await enter();
  await isOn("lobby");
  done(`joined as ${NAME}, path ${await page.getAttribute("body", "data-path")}`);

  await see(`[data-players] [data-you=true] .name:text-is("${NAME}")`);
  await see("[data-players] [data-you=false]");
  done(`sees the roster: ${(await page.locator("[data-players] .name").allTextContents()).join(", ")}`);

  await page.fill("[data-field=chat]", WORDS);
  await page.press("[data-field=chat]", "Enter");
  // The host sends every line to all players, also to its author.
  await see(`[data-chat] [data-mine=true] .text:text-is("${WORDS}")`);
  done("chatted, and the host passed it on");
  asHost(ANSWER);
  await see(`[data-chat] [data-mine=false] .text:text-is("${ANSWER}")`);
  done("sees what the host said");
  await page.locator("[data-field=chat]").blur();
  await take();

  await press("ready");
  await see("[data-players] [data-you=true][data-ready=true]");
  done("is ready");

  if (hostPid) await missTheHost(Number(hostPid));

  asHost("/ready");
  await see("[data-players] [data-you=false][data-ready=true]");
  asHost("/start");
  await isOn("arena");
  done("sees the round begin");

  await page.waitForFunction(() => document.querySelector("[data-arena]").dataset.seenX);
  await walkBy("a key", () => page.keyboard.down("a"), () => page.keyboard.up("a"));
  await walkBy("a finger", dragRight, async () => {
    await take();
    await page.mouse.up();
  });

  await press("leave");
  await isOn("join");
  done("left");
  await enter();
  await isOn("arena");
  await see("[data-scores] [data-you=true]");
  done("came back into the round");

  asHost("/end");
  await isOn("lobby");
  await see("[data-result]");
  await see("[data-players] [data-you=true][data-ready=false]");
  done(`is in the lobby again: ${(await page.textContent("[data-result]")).trim()}`);
}

/** Suspends the host until the page reports that it reconnects. */
async function missTheHost(host) {
  process.kill(host, "SIGSTOP");
  try {
    await page.locator("[data-again]", { hasText: /Reconnecting… \d+ s/ }).waitFor();
  } finally {
    process.kill(host, "SIGCONT");
  }
  await page.locator("[data-again]").waitFor({ state: "hidden" });
  await see("[data-players] [data-you=true][data-ready=true]");
  done("missed a host that slept, and is the same player after it woke up");
}

/** Steers until the host has moved this player. */
async function walkBy(what, start, stop) {
  // The host learns a moment later that the last walk is over.
  await page.waitForFunction(() => {
    const { x, y, seenX, seenY } = document.querySelector("[data-arena]").dataset;
    return Math.hypot(seenX - x, seenY - y) < 0.1;
  });
  const before = await seen();
  await start();
  await seenElsewhere(before);
  await stop();
  done(`walked by ${what}, and the host saw it`);
}

async function dragRight() {
  await page.mouse.move(PHONE.width / 2, 620);
  await page.mouse.down();
  await page.mouse.move(PHONE.width / 2 + 60, 600, { steps: 5 });
}

/** Saves the screenshots side by side. */
async function savePicture() {
  const sheet = await browser.newPage();
  await sheet.setViewportSize({ width: 1000, height: 660 });
  const images = shots.map((png) => `<img src="data:image/png;base64,${png.toString("base64")}">`).join("");
  await sheet.setContent(`<style>
    body { margin: 0; padding: 4px; display: inline-flex; gap: 28px; background: none }
    img { width: 300px; border-radius: 28px; box-shadow: 0 0 0 3px #49415f }
  </style>${images}`);
  await sheet.waitForFunction(() => [...document.images].every((image) => image.complete));
  await sheet.locator("body").screenshot({ path: picture, omitBackground: true });
  done(`took a picture of ${readFileSync(picture).length} bytes`);
}

try {
  browser = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      // mDNS names in place of addresses would need multicast, which test machines lack.
      "--disable-features=WebRtcHideLocalIpsWithMdns",
    ],
    viewport: PHONE,
    deviceScaleFactor: 2,
    hasTouch: true,
    isMobile: true,
  });
  browser.setDefaultTimeout(PATIENCE_MS);
  page = browser.pages()[0] ?? (await browser.newPage());
  page.on("pageerror", (error) => mistakes.push(error.message));
  await visit();
  await savePicture();
  if (mistakes.length) throw new Error(`mistakes in the page: ${mistakes.join("; ")}`);
} catch (error) {
  console.log(`FAIL  ${error.message}`);
  await page?.screenshot({ path: picture }).catch(() => {});
  process.exitCode = 1;
} finally {
  await browser?.close();
  if (pipe !== null) closeSync(pipe);
  rmSync(profile, { recursive: true, force: true });
}
