//! The end of the page that a game in a browser runs in. Natively there is none.
//!
//! A page that is closed or left gets one last event, and the tasks that it wakes run up to their next wait. Only requests
//! that ask to outlive the page are still sent then, and no answer arrives.

#[cfg(not(target_family = "wasm"))]
pub(super) use self::native::{is_closing, leave_with_page, outlives_page, room};
#[cfg(target_family = "wasm")]
pub(super) use self::web::{is_closing, leave_with_page, outlives_page, room};

#[cfg(not(target_family = "wasm"))]
mod native {
    use crate::net::http::HttpRequest;

    /// Returns the task of a session.
    pub fn leave_with_page<T: Future<Output = ()>>(_leave: impl Fn(), task: T) -> T {
        task
    }

    /// Whether the page is being closed.
    pub const fn is_closing() -> bool {
        false
    }

    /// How many bytes of messages the last requests of the page may still carry.
    pub const fn room() -> usize {
        0
    }

    /// Sends a request that outlives the page, if the page is being closed. Returns whether it was sent so.
    pub const fn outlives_page(_: &HttpRequest) -> bool {
        false
    }
}

#[cfg(target_family = "wasm")]
mod web {
    use std::cell::Cell;

    use js_sys::{Reflect, Uint8Array};
    use wasm_bindgen::{JsCast, JsValue, closure::Closure};
    use wasm_bindgen_futures::{JsFuture, spawn_local};
    use web_sys::{Headers, RequestInit, window};

    use crate::net::http::HttpRequest;

    /// The bytes of all bodies that may outlive a page, as the fetch standard limits them.
    const BODIES: usize = 64 * 1024;
    /// The part of them for requests that carry nothing but a goodbye. It suffices for more peers than a browser allows
    /// requests.
    const GOODBYES: usize = 16 * 1024;

    thread_local! {
        static IS_CLOSING: Cell<bool> = const { Cell::new(false) };
        /// The bytes of the bodies sent so far.
        static SENT: Cell<usize> = const { Cell::new(0) };
    }

    /// Calls a function when the page is closed or left.
    struct PageEnd {
        hide: Closure<dyn FnMut()>,
        show: Closure<dyn FnMut()>,
    }

    impl PageEnd {
        fn new(leave: impl Fn() + 'static) -> Self {
            // A page in which a session starts is alive. The session that was to hear that the player came back to the page
            // may have ended before.
            Self::page_lives();
            let hide = Closure::new(move || {
                IS_CLOSING.set(true);
                leave();
            });
            // The browser kept the page, and the player went back to it.
            let show = Closure::new(Self::page_lives);
            if let Some(window) = window() {
                let _ = window.add_event_listener_with_callback("pagehide", hide.as_ref().unchecked_ref());
                let _ = window.add_event_listener_with_callback("pageshow", show.as_ref().unchecked_ref());
            }
            PageEnd { hide, show }
        }

        fn page_lives() {
            IS_CLOSING.set(false);
            SENT.set(0);
        }
    }

    impl Drop for PageEnd {
        fn drop(&mut self) {
            if let Some(window) = window() {
                let _ = window.remove_event_listener_with_callback("pagehide", self.hide.as_ref().unchecked_ref());
                let _ = window.remove_event_listener_with_callback("pageshow", self.show.as_ref().unchecked_ref());
            }
        }
    }

    /// Runs the task of a session, and calls `leave` when the page is closed or left meanwhile.
    pub async fn leave_with_page(leave: impl Fn() + 'static, task: impl Future<Output = ()>) {
        let _page_end = PageEnd::new(leave);
        task.await;
    }

    /// Whether the page is being closed.
    pub fn is_closing() -> bool {
        IS_CLOSING.get()
    }

    /// How many bytes of messages the last requests of the page may still carry. Base64 makes four bytes of three.
    pub fn room() -> usize {
        (BODIES - GOODBYES).saturating_sub(SENT.get()) / 4 * 3
    }

    /// Sends a request that outlives the page, if the page is being closed. Returns whether it was sent so.
    pub fn outlives_page(request: &HttpRequest) -> bool {
        let Some(window) = window().filter(|_| is_closing()) else { return false };
        SENT.set(SENT.get() + request.body.as_ref().map_or(0, |body| body.len()));
        match init(request) {
            Ok(init) => {
                let answer = window.fetch_with_str_and_init(request.url.as_str(), &init);
                // A refusal without a reader would be an error of the page.
                spawn_local(async { drop(JsFuture::from(answer).await) });
            }
            Err(exception) => tracing::debug!("a last request was not sent: {exception:?}"),
        }
        true
    }

    fn init(request: &HttpRequest) -> Result<RequestInit, JsValue> {
        let init = RequestInit::new();
        init.set_method(request.method.as_str());
        Reflect::set(&init, &"keepalive".into(), &true.into())?;
        let headers = Headers::new()?;
        for (name, value) in &request.headers {
            headers.append(name.as_str(), value.to_str().unwrap_or_default())?;
        }
        init.set_headers(&headers);
        if let Some(body) = &request.body {
            init.set_body(&Uint8Array::from(&body[..]));
        }
        Ok(init)
    }
}
