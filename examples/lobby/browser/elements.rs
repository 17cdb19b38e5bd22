//! HTML elements over the fields and buttons of the canvas. A browser shows its keyboard, suggests words and pastes only in
//! inputs of its own, and a screen reader reads only elements.

use std::{cell::RefCell, rc::Rc};

use bevy::{
    ecs::entity::hash_map::EntityHashMap,
    input_focus::{FocusCause, InputFocus},
    prelude::*,
    text::{EditableText, TextEdit},
    ui::{InteractionDisabled, UiSystems},
    ui_widgets::{Activate, Button},
};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{Document, Event, HtmlElement, HtmlInputElement, KeyboardEvent};

use crate::window::{Field, Submit};

/// The elements of this page, by their nodes.
#[derive(Default)]
struct Elements {
    of: EntityHashMap<Element>,
    /// The nodes whose elements were activated since the last frame.
    activated: Rc<RefCell<Vec<Entity>>>,
}

struct Element {
    html: HtmlElement,
    /// Where it lies, in CSS pixels.
    place: Rect,
    label: String,
    /// The text that field and input last agreed on.
    text: String,
    disabled: bool,
    /// Called by the browser as long as the element exists.
    _listener: Closure<dyn FnMut(Event)>,
}

impl Drop for Element {
    fn drop(&mut self) {
        self.html.remove();
    }
}

impl Element {
    /// Creates the element of a field or a button.
    fn new(node: Entity, field: Option<&EditableText>, activated: &Rc<RefCell<Vec<Entity>>>) -> Result<Self, JsValue> {
        let document = document().ok_or(JsValue::NULL)?;
        let kind = if field.is_some() { "input" } else { "button" };
        let html: HtmlElement = document.create_element(kind)?.dyn_into()?;
        if let (Some(input), Some(longest)) =
            (html.dyn_ref::<HtmlInputElement>(), field.and_then(|field| field.max_characters))
        {
            input.set_max_length(longest as i32);
        }
        // The keyboard moves between the nodes of the canvas, not between these.
        html.set_tab_index(-1);
        let activated = activated.clone();
        let listener = Closure::<dyn FnMut(Event)>::new(move |event: Event| {
            if event.dyn_ref::<KeyboardEvent>().is_none_or(|key| key.key() == "Enter" && !key.is_composing()) {
                activated.borrow_mut().push(node);
            }
        });
        let what = if field.is_some() { "keydown" } else { "click" };
        html.add_event_listener_with_callback(what, listener.as_ref().unchecked_ref())?;
        document.body().ok_or(JsValue::NULL)?.append_child(&html)?;
        let (place, label, text) = (Rect::default(), String::new(), String::new());
        Ok(Element { html, place, label, text, disabled: false, _listener: listener })
    }

    fn put(&mut self, place: Rect) {
        if self.place == place {
            return;
        }
        self.place = place;
        let style = self.html.style();
        let size = place.size();
        for (name, value) in [("left", place.min.x), ("top", place.min.y), ("width", size.x), ("height", size.y)] {
            let _ = style.set_property(name, &format!("{value}px"));
        }
    }

    fn describe(&mut self, label: &str, disabled: bool) {
        if self.label != label {
            label.clone_into(&mut self.label);
            let _ = self.html.set_attribute("aria-label", label);
        }
        if self.disabled != disabled {
            self.disabled = disabled;
            let _ = self.html.toggle_attribute_with_force("disabled", disabled);
        }
    }

    /// Copies what the player typed into the field, and what the game changed into the input.
    fn agree(&mut self, field: &mut Mut<EditableText>) {
        let Some(input) = self.html.dyn_ref::<HtmlInputElement>() else { return };
        let typed = input.value();
        if typed != self.text {
            field.clear();
            field.editor_mut().set_text(&typed);
            field.queue_edit(TextEdit::TextEnd(false));
            self.text = typed;
        } else if field.is_changed() {
            let text = field.value().to_string();
            if text != self.text {
                input.set_value(&text);
                self.text = text;
            }
        }
    }
}

fn document() -> Option<Document> {
    web_sys::window()?.document()
}

type Parts = (
    Entity,
    &'static ComputedNode,
    &'static UiGlobalTransform,
    Option<&'static Field>,
    Option<&'static mut EditableText>,
    Option<&'static Children>,
    Has<InteractionDisabled>,
);

/// Creates, moves and removes elements with their nodes.
fn mirror(
    mut elements: NonSendMut<Elements>,
    mut nodes: Query<Parts, Or<(With<Field>, With<Button>)>>,
    captions: Query<&Text>,
    window: Single<&Window>,
    mut focus: ResMut<InputFocus>,
) {
    let Elements { of, activated } = &mut *elements;
    let focused = document().and_then(|document| document.active_element());
    of.retain(|node, element| {
        let stays = nodes.contains(*node);
        // Otherwise nothing would have the keyboard.
        if !stays && focused.as_ref().is_some_and(|focused| *focused == *element.html) {
            focus_canvas();
        }
        stays
    });
    // Nodes are measured in pixels of the screen, elements in those of the page.
    let pixel = 1.0 / window.scale_factor();
    for (node, computed, transform, field, text, children, disabled) in &mut nodes {
        let element = match of.entry(node) {
            bevy::platform::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            bevy::platform::collections::hash_map::Entry::Vacant(entry) => {
                match Element::new(node, text.as_deref(), activated) {
                    Ok(element) => entry.insert(element),
                    Err(error) => {
                        error_once!("the page takes no elements: {error:?}");
                        return;
                    }
                }
            }
        };
        element.put(Rect::from_center_size(transform.translation * pixel, computed.size() * pixel));
        let caption = || children?.iter().find_map(|child| captions.get(child).ok());
        let label = field.map(|field| field.label.as_str()).or_else(|| caption().map(|text| text.as_str()));
        element.describe(label.unwrap_or_default(), disabled);
        if let Some(mut text) = text {
            element.agree(&mut text);
            if focused.as_ref().is_some_and(|focused| *focused == *element.html) && focus.get() != Some(node) {
                focus.set(node, FocusCause::Pressed);
            }
        }
    }
}

/// Submits fields and activates buttons of which the browser said so.
fn activate(mut elements: NonSendMut<Elements>, mut fields: Query<&mut EditableText>, mut commands: Commands) {
    for entity in elements.activated.take() {
        if let Ok(mut field) = fields.get_mut(entity) {
            // What was typed since the last frame belongs to it.
            if let Some(element) = elements.of.get_mut(&entity) {
                element.agree(&mut field);
            }
            commands.trigger(Submit { entity });
        } else {
            commands.trigger(Activate { entity });
        }
    }
}

/// Whether the player types into an element, and a phone may show its keyboard.
pub fn is_typing() -> bool {
    document()
        .and_then(|document| document.active_element())
        .is_some_and(|element| element.has_type::<HtmlInputElement>())
}

/// Gives the canvas the keyboard, which a browser otherwise does at the first click.
fn focus_canvas() {
    let canvas = document().and_then(|document| document.query_selector("canvas").ok()?);
    if let Some(canvas) = canvas.and_then(|canvas| canvas.dyn_into::<HtmlElement>().ok()) {
        let _ = canvas.focus();
    }
}

pub fn plugin(app: &mut App) {
    app.init_non_send::<Elements>()
        .add_systems(Startup, focus_canvas)
        .add_systems(PreUpdate, activate)
        .add_systems(PostUpdate, mirror.after(UiSystems::Layout));
}
