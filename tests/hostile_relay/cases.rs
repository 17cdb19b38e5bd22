//! Single disturbances, each of which has once ended sessions.

use std::time::Duration;

use bevy_uhst::PathPolicy;

use crate::{
    Kind,
    faults::{Answer, Faults, Honest, PostFault, Refusal, Side, StreamFault},
    proxy::Way,
    run::{Happening, Plan, play},
    runtime,
};

/// Plays a session over the relay alone that is disturbed for this time.
fn case(hostile: Duration, happenings: Vec<(Duration, Happening)>, faults: impl Faults) {
    let plan = Plan { happenings, ..Plan::calm(PathPolicy::RelayOnly, hostile) };
    let runtime = runtime();
    play(runtime.handle(), &mut Kind::Ours.start(), &plan, faults).unwrap_or_else(|why| panic!("{why}"));
}

fn stands_still(side: Side) {
    std::thread::scope(|scope| {
        for time in [2500, 3500, 4500].map(Duration::from_millis) {
            let hold = Happening::Hold(side, vec![Way::Up, Way::Down], time);
            scope.spawn(move || case(time + Duration::from_secs(1), vec![(Duration::from_millis(300), hold)], Honest));
        }
    });
}

#[test]
fn a_client_whose_packets_stand_still_goes_on() {
    stands_still(Side::Client);
}

#[test]
fn a_host_whose_packets_stand_still_goes_on() {
    stands_still(Side::Host);
}

/// Applies a fault to each fourth POST.
struct EachFourth(PostFault);

impl Faults for EachFourth {
    fn post(&self, _: Side, number: u64) -> PostFault {
        if number % 4 == 3 { self.0 } else { PostFault::NONE }
    }
}

/// Cuts all streams four times, every 1.7 s.
fn four_cuts() -> Vec<(Duration, Happening)> {
    (1..=4).map(|cut| (cut * Duration::from_millis(1700), Happening::Cut)).collect()
}

#[test]
fn streams_are_cut_and_each_fourth_post_is_refused() {
    let answer = Answer::Refused(Refusal::UNAVAILABLE);
    case(Duration::from_secs(8), four_cuts(), EachFourth(PostFault { copies: 0, answer, ..PostFault::NONE }));
}

#[test]
fn streams_are_cut_and_each_fourth_answer_never_comes() {
    case(Duration::from_secs(8), four_cuts(), EachFourth(PostFault { answer: Answer::Never, ..PostFault::NONE }));
}

/// Redirects each stream once to the same relay.
struct Redirected;

impl Faults for Redirected {
    fn stream(&self, _: Side, number: u64) -> StreamFault {
        StreamFault { redirected: number.is_multiple_of(2), ..StreamFault::NONE }
    }
}

#[test]
fn a_stream_that_is_redirected_is_followed() {
    let plan = Plan { from_the_start: true, ..Plan::calm(PathPolicy::RelayOnly, Duration::from_secs(1)) };
    let runtime = runtime();
    play(runtime.handle(), &mut Kind::Ours.start(), &plan, Redirected).unwrap_or_else(|why| panic!("{why}"));
}

/// Opens the first stream of a client late, as relay 2.1.1 does.
struct LateStream;

impl Faults for LateStream {
    fn stream(&self, side: Side, number: u64) -> StreamFault {
        let delay = if side == Side::Client && number == 0 { Duration::from_secs(3) } else { Duration::ZERO };
        StreamFault { delay, ..StreamFault::NONE }
    }
}

#[test]
#[ignore = "needs node and npm"]
fn a_client_whose_stream_opens_late_at_an_original_relay_joins_as_native() {
    let plan = Plan { from_the_start: true, ..Plan::calm(PathPolicy::RelayOnly, Duration::from_secs(6)) };
    let runtime = runtime();
    play(runtime.handle(), &mut Kind::Original.start(), &plan, LateStream).unwrap_or_else(|why| panic!("{why}"));
}
