//! The face: plugin, components, messages and events.
