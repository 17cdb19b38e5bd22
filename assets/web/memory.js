// Small things to remember. A browser may forbid that, which costs comfort and nothing else.

/** For good, on this device. */
export const always = memory(() => localStorage);
/** Until the page is closed. */
export const thisVisit = memory(() => sessionStorage);

function memory(storage) {
  return {
    get(key) {
      try {
        return storage().getItem(key);
      } catch {
        return null;
      }
    },
    set(key, value) {
      try {
        storage().setItem(key, value);
      } catch {
        // Then not.
      }
    },
  };
}
