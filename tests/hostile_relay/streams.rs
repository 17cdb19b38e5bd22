//! The event streams that the hostile relay passes on: late, in pieces, and cut.

use std::{future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use fastrand::Rng;
use futures_util::stream::unfold;
use http_body_util::{BodyExt, StreamBody};
use hyper::{Response, body::Frame, header::LOCATION};
use tokio::{sync::mpsc, time::sleep};

use super::{
    super::faults::{Cut, Side, StreamFault},
    Closed, Forwarded, Mode, Reply, State, Way, end_to_end, refused, text,
};

type Sender = mpsc::Sender<Result<Frame<Bytes>, Closed>>;

impl State {
    pub(super) async fn stream(self: Arc<Self>, side: Side, request: Forwarded) -> Reply {
        let number = self.number(side, 1);
        let mode = *self.mode.borrow();
        let mut fault = self.faults().stream(side, number);
        if mode == Mode::Honest {
            // It may be cut later.
            fault = StreamFault { cut: fault.cut, ..StreamFault::NONE };
        }
        self.note(format_args!("{side:?} stream #{number} of {}: {fault:?}", request.whose()));
        if fault.redirected {
            let mut reply = text(307, "");
            reply.headers_mut().insert(LOCATION, request.head.uri.to_string().parse().unwrap());
            return Ok(reply);
        }
        if let Some(refusal) = fault.refused.map(|refusal| self.mild(refusal)) {
            return Ok(refused(refusal));
        }
        sleep(fault.delay).await;
        self.pass(side, Way::Up).await;
        let upstream = self.send(&request).await;
        self.note(format_args!(
            "{side:?} stream #{number}: the relay says {}",
            upstream.as_ref().map_or(0, |reply| reply.status().as_u16())
        ));
        let mut upstream = upstream?;
        self.pass(side, Way::Down).await;
        let mut reply = Response::builder().status(upstream.status());
        *reply.headers_mut().unwrap() = end_to_end(&upstream);
        let (sender, receiver) = mpsc::channel(16);
        let frames = unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
        tokio::spawn(async move {
            let cut = self.cut(fault.cut);
            let ended = tokio::select! {
                ended = self.pump(side, &mut upstream, fault.split, &sender) => ended,
                () = sender.closed() => "its reader is gone",
                clean = cut => {
                    if !clean {
                        let _ = sender.try_send(Err(Closed));
                    }
                    "cut"
                }
            };
            self.note(format_args!("{side:?} stream #{number}: {ended}"));
            drop(sender);
            if ended == "cut" {
                sleep(fault.cut.map_or(Duration::ZERO, |cut| cut.linger)).await;
            }
        });
        Ok(reply.body(BodyExt::boxed_unsync(StreamBody::new(frames))).unwrap())
    }

    /// Returns when it is time to cut, and whether the body ends as it should.
    async fn cut(&self, cut: Option<Cut>) -> bool {
        let may_cut = |mode: &Mode| *mode == Mode::Hostile;
        let planned = async {
            let Some(cut) = cut else { return pending().await };
            let mut mode = self.mode.subscribe();
            let _ = mode.wait_for(may_cut).await;
            sleep(cut.after).await;
            let may_cut = may_cut(&mode.borrow());
            if may_cut { cut.clean } else { pending().await }
        };
        let mut cuts = self.cuts.subscribe();
        tokio::select! {
            clean = planned => clean,
            _ = cuts.changed() => false,
        }
    }

    /// Passes on an event stream to its end.
    async fn pump(&self, side: Side, upstream: &mut reqwest::Response, split: bool, sender: &Sender) -> &'static str {
        let mut random = Rng::with_seed(1);
        loop {
            let chunk = match upstream.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return "the relay ended it",
                Err(_) => {
                    let _ = sender.send(Err(Closed)).await;
                    return "the relay broke it off";
                }
            };
            self.pass(side, Way::Down).await;
            let mut rest = chunk;
            // A large event in crumbs would take seconds.
            let mut crumbs = if split { 20 } else { 0 };
            while !rest.is_empty() {
                let most = match crumbs {
                    0 if split => random.usize(1000..16_000),
                    0 => rest.len(),
                    _ => random.usize(1..60),
                };
                crumbs = usize::saturating_sub(crumbs, 1);
                let most = most.min(rest.len());
                if sender.send(Ok(Frame::data(rest.split_to(most)))).await.is_err() {
                    return "its reader is gone";
                }
                if split {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}
