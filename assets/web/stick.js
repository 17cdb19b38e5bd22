// Steering: drag anywhere, as with a stick that appears under the finger, or use WASD and the arrow keys.

/** How far the finger goes for full speed, and how far it may tremble, in CSS pixels. */
const REACH = 52;
const DEAD = 6;

const KEYS = {
  KeyW: [0, -1], ArrowUp: [0, -1],
  KeyA: [-1, 0], ArrowLeft: [-1, 0],
  KeyS: [0, 1], ArrowDown: [0, 1],
  KeyD: [1, 0], ArrowRight: [1, 0],
};

export class Stick {
  #enabled = false;
  #area;
  #shown;
  /** The finger that steers, and where it came down. */
  #finger = null;
  #dragged = { x: 0, y: 0 };
  #pressed = new Set();

  /** `area` listens for fingers; `shown` is the stick on the screen. */
  constructor(area, shown) {
    this.#area = area;
    this.#shown = shown;
    area.addEventListener("pointerdown", (event) => this.#down(event));
    area.addEventListener("pointermove", (event) => this.#drag(event));
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      area.addEventListener(end, (event) => this.#up(event));
    }
    area.addEventListener("contextmenu", (event) => this.#finger && event.preventDefault());
    addEventListener("keydown", (event) => this.#key(event, true));
    addEventListener("keyup", (event) => this.#key(event, false));
    // A key let go elsewhere is never heard of.
    addEventListener("blur", () => this.#release());
  }

  /** Which way to walk; 1 is full speed. */
  get way() {
    let { x, y } = this.#dragged;
    for (const code of this.#pressed) {
      x += KEYS[code][0];
      y += KEYS[code][1];
    }
    const length = Math.max(1, Math.hypot(x, y));
    return { x: x / length, y: y / length };
  }

  enable(enabled) {
    this.#enabled = enabled;
    this.#release();
  }

  #release() {
    this.#pressed.clear();
    this.#finger = null;
    this.#dragged = { x: 0, y: 0 };
    this.#show();
  }

  #down(event) {
    if (!this.#enabled || this.#finger || event.button !== 0 || event.target.closest("button")) return;
    this.#finger = { id: event.pointerId, x: event.clientX, y: event.clientY };
    this.#area.setPointerCapture(event.pointerId);
    this.#area.dataset.steered = "";
    this.#show();
  }

  #drag(event) {
    if (event.pointerId !== this.#finger?.id) return;
    const x = event.clientX - this.#finger.x;
    const y = event.clientY - this.#finger.y;
    const length = Math.hypot(x, y);
    const strength = length < DEAD ? 0 : Math.min(length, REACH) / REACH / length;
    this.#dragged = { x: x * strength, y: y * strength };
    this.#show();
  }

  #up(event) {
    if (event.pointerId !== this.#finger?.id) return;
    this.#finger = null;
    this.#dragged = { x: 0, y: 0 };
    this.#show();
  }

  #show() {
    const { style, firstElementChild: knob } = this.#shown;
    this.#shown.dataset.held = this.#finger !== null;
    // Without a finger it lies where the style sheet puts it.
    style.left = this.#finger ? `${this.#finger.x}px` : "";
    style.top = this.#finger ? `${this.#finger.y}px` : "";
    knob.style.transform = `translate(${this.#dragged.x * REACH}px, ${this.#dragged.y * REACH}px)`;
  }

  #key(event, down) {
    if (!this.#enabled || !KEYS[event.code] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (down) this.#pressed.add(event.code);
    else this.#pressed.delete(event.code);
  }
}
