// The arena's view: draws the figures, and walks our own where a finger or the keys point.

import { Stick } from "./stick.js";
import { ARENA, heldInside } from "./table.js";

/** Units of the arena: per second, and across. */
const SPEED = 5;
const SIZE = 0.9;
/** Positions per second. Over the relay each one is a request. */
const RATE = { direct: 20, relay: 12 };
/** Even who stands still says so now and then, in case the last position got lost. */
const STILL_MS = 500;

const find = (selector) => document.querySelector(`.arena ${selector}`);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class ArenaView {
  #move;
  #table = null;
  #every = 0;
  #stick = new Stick(document.querySelector(".arena"), find("[data-stick]"));
  #canvas = find("[data-arena]");
  #colours = [];
  /** Where each figure is drawn now, on its way to where it is. */
  #drawn = new Map();
  #said = { at: 0, x: 0, y: 0 };
  #before = 0;

  /** `move(x, y)` tells the host where we are. */
  constructor(move) {
    this.#move = move;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    this.#colours = Array.from({ length: 8 }, (_, at) => colour(`--player-${at}`));
    this.#colours.dots = colour("--edge");
    this.#colours.spark = colour("--accent");
    this.#colours.text = colour("--text");
    this.#colours.pupil = colour("--background");
  }

  /** Runs for as long as there is a table. */
  run(table, path) {
    const idle = this.#table === null;
    this.#table = table;
    this.#every = 1000 / RATE[path ?? "relay"];
    this.#drawn.clear();
    this.#stick.enable(table !== null);
    this.drawHead();
    if (table && idle) requestAnimationFrame((now) => this.#frame((this.#before = now)));
  }

  drawHead() {
    if (!this.#table) return;
    const { players, me } = this.#table;
    const list = find("[data-scores]");
    while (list.children.length > players.length) list.lastChild.remove();
    players.forEach((player, at) => {
      const chip = list.children[at] ?? list.appendChild(newChip());
      chip.dataset.score = player.id;
      chip.dataset.you = player.id === me;
      chip.children[0].dataset.colour = player.colour;
      chip.children[1].textContent = player.name;
      chip.children[2].textContent = player.score;
    });
  }

  #frame(now) {
    if (!this.#table) return;
    const seconds = Math.min((now - this.#before) / 1000, 0.1);
    this.#before = now;
    this.#walk(seconds, now);
    this.#draw(seconds, now);
    requestAnimationFrame((next) => this.#frame(next));
  }

  #walk(seconds, now) {
    const { me, figures, seen } = this.#table;
    const at = figures.get(me);
    if (!at) return;
    const way = this.#stick.way;
    const next = heldInside({ x: at.x + way.x * SPEED * seconds, y: at.y + way.y * SPEED * seconds });
    figures.set(me, next);
    // For whoever watches this page from outside.
    Object.assign(this.#canvas.dataset, { x: next.x.toFixed(2), y: next.y.toFixed(2) });
    if (seen) Object.assign(this.#canvas.dataset, { seenX: seen.x, seenY: seen.y });

    const since = now - this.#said.at;
    const moved = next.x !== this.#said.x || next.y !== this.#said.y;
    if (since >= STILL_MS || (moved && since >= this.#every)) {
      this.#said = { at: now, ...next };
      this.#move(next.x, next.y);
    }
  }

  #draw(seconds, now) {
    const left = Math.ceil(this.#table.secondsLeft);
    const clock = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    if (find("[data-clock]").textContent !== clock) find("[data-clock]").textContent = clock;

    const { unit, ink } = this.#paper();
    this.#drawDots(ink, unit);
    this.#drawSpark(ink, unit, now);
    const { me, figures } = this.#table;
    const step = 1 - Math.exp(-12 * seconds);
    // Our own last, on top of the others.
    const ids = [...figures.keys()].sort((a, b) => (a === me) - (b === me));
    const walkers = [];
    for (const id of ids) {
      const player = this.#table.player(id);
      if (!player) continue;
      const target = figures.get(id);
      const at = this.#drawn.get(id) ?? target;
      const way = { x: target.x - at.x, y: target.y - at.y };
      const next = id === me ? target : { x: at.x + way.x * step, y: at.y + way.y * step };
      this.#drawn.set(id, next);
      // Our own figure is where it wants to be already: it looks where the stick points.
      const gaze = id === me ? this.#stick.way : { x: way.x * 2.5, y: way.y * 2.5 };
      walkers.push({ player, at: next, gaze, mine: id === me });
    }
    walkers.forEach((walker) => this.#drawFigure(ink, unit, walker));
    // Names lie over all figures: who stands behind can be read as well.
    walkers.forEach((walker) => this.#drawName(ink, unit, walker));
  }

  /** The canvas with as many pixels as the screen has, cleared, and how many make a unit. */
  #paper() {
    const width = Math.round(this.#canvas.clientWidth * sharpness());
    const height = Math.round(this.#canvas.clientHeight * sharpness());
    if (this.#canvas.width !== width || this.#canvas.height !== height) {
      Object.assign(this.#canvas, { width, height });
    }
    const ink = this.#canvas.getContext("2d");
    ink.clearRect(0, 0, width, height);
    return { unit: width / ARENA.x, ink };
  }

  /** So that one sees oneself move. */
  #drawDots(ink, unit) {
    ink.fillStyle = this.#colours.dots;
    for (let x = 1; x < ARENA.x; x++) {
      for (let y = 1; y < ARENA.y; y++) disc(ink, x * unit, y * unit, Math.max(0.03 * unit, sharpness()));
    }
  }

  #drawSpark(ink, unit, now) {
    const { x, y } = this.#table.spark;
    ink.save();
    ink.translate(x * unit, y * unit);
    const glow = ink.createRadialGradient(0, 0, 0, 0, 0, unit);
    glow.addColorStop(0, this.#colours.spark + "70");
    glow.addColorStop(1, this.#colours.spark + "00");
    ink.fillStyle = glow;
    disc(ink, 0, 0, unit);
    ink.rotate(Math.PI / 4);
    const half = 0.19 * unit * (calm.matches ? 1 : 1 + 0.12 * Math.sin(now / 250));
    ink.fillStyle = this.#colours.spark;
    ink.beginPath();
    ink.roundRect(-half, -half, 2 * half, 2 * half, half * 0.35);
    ink.fill();
    ink.restore();
  }

  #drawFigure(ink, unit, { player, at, gaze }) {
    const size = SIZE * unit;
    ink.save();
    ink.translate(at.x * unit, at.y * unit);
    ink.shadowColor = "#0007";
    ink.shadowBlur = 0.3 * size;
    ink.shadowOffsetY = 0.14 * size;
    ink.fillStyle = this.#colours[player.colour % 8];
    disc(ink, 0, 0, size / 2);
    ink.shadowColor = "transparent";
    const length = Math.max(1, Math.hypot(gaze.x, gaze.y));
    ink.translate((gaze.x / length) * 0.09 * size, (gaze.y / length) * 0.09 * size);
    for (const side of [-0.155, 0.155]) {
      ink.fillStyle = "#fff";
      oval(ink, side * size, -0.09 * size, 0.105 * size, 0.15 * size);
      ink.fillStyle = this.#colours.pupil;
      oval(ink, (side + 0.008) * size, -0.067 * size, 0.055 * size, 0.072 * size);
    }
    ink.restore();
  }

  #drawName(ink, unit, { player, at, mine }) {
    const pixels = Math.min(Math.max(0.36 * unit, 12 * sharpness()), 15 * sharpness());
    ink.font = `${mine ? 700 : 500} ${pixels}px Manrope, sans-serif`;
    ink.textAlign = "center";
    ink.lineJoin = "round";
    ink.lineWidth = pixels / 4;
    const half = ink.measureText(player.name).width / 2;
    const x = Math.min(Math.max(at.x * unit, half + 4), this.#canvas.width - half - 4);
    const y = Math.max((at.y - SIZE / 2) * unit - pixels * 0.45, pixels);
    ink.strokeStyle = this.#colours.pupil;
    ink.strokeText(player.name, x, y);
    ink.fillStyle = this.#colours.text;
    ink.fillText(player.name, x, y);
  }
}

/** Pixels of the canvas for a CSS pixel. */
const sharpness = () => Math.min(devicePixelRatio, 3);

function newChip() {
  const chip = document.createElement("li");
  chip.append(document.createElement("i"), document.createElement("span"), document.createElement("b"));
  chip.firstChild.className = "figure";
  chip.firstChild.setAttribute("aria-hidden", "true");
  return chip;
}

function disc(ink, x, y, radius) {
  ink.beginPath();
  ink.arc(x, y, radius, 0, 2 * Math.PI);
  ink.fill();
}

function oval(ink, x, y, across, down) {
  ink.beginPath();
  ink.ellipse(x, y, across, down, 0, 0, 2 * Math.PI);
  ink.fill();
}
