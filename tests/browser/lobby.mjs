// Plays the lobby's web build in two pages of a headless Chromium, a phone's and a laptop's, with a running host.
//
//   node tests/browser/lobby.mjs LINK CHROMIUM FOLDER HOST-INPUT
//
// LINK is the host's join link, FOLDER gets the pictures. HOST-INPUT is a named pipe that the host reads its lines from
// (`lobby host --web DIR --terminal < HOST-INPUT`). `playwright-core` is looked for in NODE_PATH.
//
// The game draws into a canvas. Its elements for screen readers say where the buttons and the fields are and what
// happened; the pages are clicked, touched and typed into at these places, as a player does.
//
// Prints every step that happened, and exits with 0 only if all did.

import { closeSync, openSync, writeFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const { chromium } = createRequire(`${process.env.NODE_PATH}/x.js`)("playwright-core");

const [link, executablePath, folder, hostInput] = process.argv.slice(2);
if (!hostInput) {
  console.error("usage: node tests/browser/lobby.mjs LINK CHROMIUM FOLDER HOST-INPUT");
  process.exit(2);
}

// Two games that draw without a graphics card leave little of a small machine.
const PATIENCE_MS = 240_000;
const PHONE = { name: "Sam", colour: [0x4c, 0xc9, 0xf0], viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };
const LAPTOP = { name: "Kim", colour: [0xff, 0xd2, 0x4c], viewport: { width: 1280, height: 800 } };

const pipe = openSync(hostInput, "w");
const asHost = (line) => writeSync(pipe, `${line}\n`);
const done = (what) => console.log(`ok    ${what}`);
const mistakes = [];
let browser;

/** A player in a page. */
class Player {
  static async open(options) {
    const player = new Player();
    player.options = options;
    player.name = options.name;
    const context = await browser.newContext(options);
    context.setDefaultTimeout(PATIENCE_MS);
    player.page = await context.newPage();
    player.page.on("pageerror", (error) => mistakes.push(`${player.name}: ${error.message}`));
    player.page.on("console", (message) => message.type() === "error" && mistakes.push(`${player.name}: ${message.text()}`));
    const began = performance.now();
    await player.page.goto(link);
    await player.sees(/^Join /);
    done(`${player.name}: the first frame after ${Math.round(performance.now() - began)} ms`);
    return player;
  }

  /** The element of a button that can be pressed, by its caption. */
  button(caption) {
    return this.page.locator("body > button:not([disabled])").and(this.page.getByRole("button", { name: caption, exact: true }));
  }

  async sees(caption) {
    await this.button(caption).first().waitFor({ state: "attached" });
  }

  /** Clicks or touches the canvas there. The game may move things until they have their places. */
  async press(element) {
    await element.waitFor({ state: "attached" });
    let place;
    for (let last; ; last = place) {
      place = await element.boundingBox();
      if (last && place && place.width > 0 && JSON.stringify(last) === JSON.stringify(place)) break;
      await this.page.evaluate(() => new Promise(requestAnimationFrame));
    }
    const [x, y] = [place.x + place.width / 2, place.y + place.height / 2];
    if (this.options.hasTouch) await this.page.touchscreen.tap(x, y);
    else await this.page.mouse.click(x, y, { delay: 50 });
  }

  async types(field, text) {
    await this.press(this.page.getByRole("textbox", { name: field }));
    await this.page.keyboard.type(text, { delay: 20 });
  }

  /** Waits until the game has told this. */
  async hears(words) {
    await this.page.locator("#news p", { hasText: words }).first().waitFor({ state: "attached" });
  }

  async join() {
    await this.press(this.button(/^Join /));
    await this.sees("Leave");
  }

  /** The middle of everything in the colour of our figure, below the scores, as soon as there is such a picture. */
  async place() {
    const patience = performance.now() + PATIENCE_MS;
    for (let place = null; performance.now() < patience; ) {
      place = await this.look();
      if (place !== null) return place;
    }
    throw new Error(`${this.name}: no figure in the arena`);
  }

  async look() {
    const picture = await this.page.screenshot();
    return this.page.evaluate(
      async ([data, [red, green, blue], head]) => {
        const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${data}`)).blob());
        const board = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
        board.drawImage(bitmap, 0, 0);
        const top = Math.round((head * bitmap.width) / innerWidth);
        const { data: pixels, width } = board.getImageData(0, top, bitmap.width, bitmap.height - top);
        let [count, x] = [0, 0];
        for (let at = 0; at < pixels.length; at += 4) {
          const near = Math.abs(pixels[at] - red) + Math.abs(pixels[at + 1] - green) + Math.abs(pixels[at + 2] - blue) < 24;
          if (near) [count, x] = [count + 1, x + ((at / 4) % width)];
        }
        return count > 20 ? (x / count) * (innerWidth / bitmap.width) : null;
      },
      [picture.toString("base64"), this.options.colour, this.options.viewport.width < 500 ? 200 : 120],
    );
  }

  /** Steers until the picture shows our figure somewhere else. */
  async walks(what, start, stop) {
    const before = await this.place();
    await start();
    const patience = performance.now() + PATIENCE_MS;
    while (Math.abs((await this.place()) - before) < 15) {
      if (performance.now() > patience) throw new Error(`${this.name}: the figure does not move by ${what}`);
    }
    await stop();
    done(`${this.name}: walks by ${what}`);
  }

  async takesPicture(what) {
    const png = await this.page.screenshot();
    writeFileSync(join(folder, `${this.name}-${what}.png`), png);
    return png;
  }
}

/** Pushes the stick of the phone, which is a finger on the lower part of the page. */
async function finger(player) {
  const session = await player.page.context().newCDPSession(player.page);
  const { width, height } = player.options.viewport;
  const touch = (type, ...points) => session.send("Input.dispatchTouchEvent", { type, touchPoints: points.map(([x, y]) => ({ x, y })) });
  const [x, y] = [width / 2, height - 85];
  return {
    push: async () => {
      await touch("touchStart", [x, y]);
      for (let step = 1; step <= 5; step++) await touch("touchMove", [x - 10 * step, y]);
    },
    lift: () => touch("touchEnd"),
  };
}

async function visit() {
  const phone = await Player.open(PHONE);
  await phone.types(/^What should/, phone.name);
  await phone.takesPicture("start");
  await phone.join();
  done("Sam: joined by the link");
  const laptop = await Player.open(LAPTOP);
  await laptop.types(/^What should/, laptop.name);
  await laptop.takesPicture("start");
  await laptop.page.keyboard.press("Enter");
  await laptop.sees("Leave");
  done("Kim: joined with the Enter key");
  await phone.hears("Kim joined");

  await phone.types("Say something", "Hello from the sofa");
  await phone.page.keyboard.press("Enter");
  await laptop.hears("Sam: Hello from the sofa");
  await laptop.types("Say something", "Hello phone");
  await laptop.press(laptop.button("Send"));
  await phone.hears("Kim: Hello phone");
  asHost("One quick round?");
  for (const player of [phone, laptop]) await player.hears("Mira: One quick round?");
  done("chatted, all three");

  for (const player of [phone, laptop]) {
    await player.press(player.button("I am ready"));
    await player.hears(`${player.name} is ready`);
  }
  const lobby = [await phone.takesPicture("lobby"), await laptop.takesPicture("lobby")];
  done("both are ready");
  asHost("/ready");
  await laptop.hears("Mira is ready");
  asHost("/start");
  for (const player of [phone, laptop]) {
    await player.hears("the round begins");
    // The lobby's page, which shows the same colours, goes a frame later.
    await player.button("I am not ready").waitFor({ state: "detached" });
  }
  await laptop.walks("the keyboard", () => laptop.page.keyboard.down("a"), () => laptop.page.keyboard.up("a"));
  const { push, lift } = await finger(phone);
  await phone.walks("touch", push, lift);
  const arena = [await phone.takesPicture("arena"), await laptop.takesPicture("arena")];

  await phone.press(phone.button("Leave"));
  await laptop.hears("Sam left");
  await phone.join();
  await laptop.hears("Sam joined");
  done("Sam: left, and joined again");
  asHost("/end");
  for (const player of [phone, laptop]) await player.sees("I am ready");
  await laptop.page.reload();
  await laptop.sees(/^Join /);
  await phone.hears("Kim left");
  await laptop.join();
  done("Kim: loaded the page again, whose name it remembers, and joined");
  asHost("/quit");
  for (const player of [phone, laptop]) await player.hears("The host closed the lobby.");
  done("both know that the host closed the lobby");
  return { lobby, arena };
}

/** A browser without WebGL 2 says so in the page. */
async function withoutWebGl() {
  const page = await (await browser.newContext(PHONE)).newPage();
  await page.addInitScript(() => (HTMLCanvasElement.prototype.getContext = () => null));
  await page.goto(link);
  await page.getByText("WebGL 2").waitFor();
  writeFileSync(join(folder, "no-webgl.png"), await page.screenshot());
  done("a browser without WebGL 2 is told what it lacks");
  await page.context().close();
}

/** The pages side by side, as for a README. */
async function savePicture([phone, laptop], name) {
  const sheet = await browser.newPage({ deviceScaleFactor: 1 });
  await sheet.setViewportSize({ width: 1500, height: 700 });
  const image = (png, style) => `<img style="${style}" src="data:image/png;base64,${png.toString("base64")}">`;
  await sheet.setContent(`<style>
    body { margin: 0; padding: 4px; display: inline-flex; gap: 28px; background: none }
    img { height: 640px; box-shadow: 0 0 0 3px #49415f }
  </style>${image(laptop, "border-radius: 14px")}${image(phone, "border-radius: 28px")}`);
  await sheet.waitForFunction(() => [...document.images].every((image) => image.complete));
  await sheet.locator("body").screenshot({ path: join(folder, name), omitBackground: true });
}

try {
  browser = await chromium.launch({
    executablePath,
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--disable-dev-shm-usage",
      "--no-proxy-server",
      // Draws WebGL without a graphics card.
      "--use-angle=swiftshader",
      "--enable-unsafe-swiftshader",
      // Names in place of addresses would need multicast, which test machines lack.
      "--disable-features=WebRtcHideLocalIpsWithMdns",
    ],
  });
  await withoutWebGl();
  const { lobby, arena } = await visit();
  // The games draw as fast as they can.
  for (const context of browser.contexts()) await context.close();
  await savePicture(lobby, "browser.png");
  await savePicture(arena, "browser-arena.png");
  if (mistakes.length) throw new Error(`mistakes in the pages: ${mistakes.join("; ")}`);
} catch (error) {
  console.log(`FAIL  ${error.message}`);
  for (const context of browser?.contexts() ?? []) {
    for (const [number, page] of context.pages().entries()) {
      await page.screenshot({ path: join(folder, `failed-${context.pages().length}-${number}-${Date.now()}.png`) }).catch(() => {});
    }
  }
  for (const mistake of mistakes) console.log(mistake);
  process.exitCode = 1;
} finally {
  await browser?.close();
  closeSync(pipe);
}
