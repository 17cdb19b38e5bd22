//! Reports once each system that reads messages less often than Bevy keeps them, and therefore misses some.

use std::{any::TypeId, collections::VecDeque, fmt, marker::PhantomData};

use bevy::{
    app::{FixedFirst, FixedLast, FixedPostUpdate, FixedPreUpdate},
    ecs::{
        change_detection::Tick,
        schedule::{
            FlattenedDependencies, InternedScheduleLabel, NodeId, ScheduleBuildError, ScheduleBuildPass, ScheduleGraph,
            ScheduleLabel, SystemKey, SystemSetKey, graph::DiGraph,
        },
        system::{System, SystemChangeTick},
    },
    platform::{collections::HashSet, hash::FixedHasher},
    prelude::*,
    utils::prelude::{DebugName, ShortName},
};
use indexmap::IndexSet;

/// The number of frames that are tracked. Bevy keeps the messages of two frames, and those of more frames only until the
/// next fixed step.
const MAX_MARKS: usize = 8;

/// The systems that read messages of this type, and the messages that were dropped before any of them ran.
#[derive(Resource)]
struct SlowReaders<M: Message> {
    readers: Vec<(InternedScheduleLabel, SystemKey)>,
    marks: VecDeque<Mark>,
    /// The number of the first message that was not dropped at the last check.
    judged: usize,
    /// The number of messages that were dropped unread, and the tick at which the last of them was written.
    missed: Option<(usize, Tick)>,
    reported: bool,
    of: PhantomData<fn() -> M>,
}

/// The messages that were written in one frame.
struct Mark {
    /// The number of the first message after this frame.
    end: usize,
    /// The tick of the frame. Readers that have run since then have read its messages.
    written: Tick,
}

impl<M: Message> Default for SlowReaders<M> {
    fn default() -> Self {
        SlowReaders {
            readers: Vec::new(),
            marks: VecDeque::new(),
            judged: 0,
            missed: None,
            reported: false,
            of: PhantomData,
        }
    }
}

impl<M: Message> SlowReaders<M> {
    fn note_written(&mut self, end: usize, now: Tick) {
        if self.marks.back().map_or(self.judged, |last| last.end) >= end {
            return;
        }
        let full = self.marks.len() == MAX_MARKS;
        match self.marks.back_mut().filter(|_| full) {
            // The earlier tick counts, so that no message that was read counts as missed.
            Some(last) => last.end = end,
            None => self.marks.push_back(Mark { end, written: now }),
        }
    }

    /// Counts the messages that were dropped before any reader ran. `last_run` is the tick at which a reader ran last, if it
    /// is known.
    fn note_dropped(&mut self, dropped: usize, last_run: Option<Tick>, now: Tick) {
        while let Some(mark) = self.marks.pop_front_if(|mark| mark.end <= dropped) {
            let count = mark.end - self.judged;
            self.judged = mark.end;
            if last_run.is_some_and(|last_run| !last_run.is_newer_than(mark.written, now)) {
                self.missed = Some((self.missed.map_or(0, |(missed, _)| missed) + count, mark.written));
            }
        }
    }

    /// The reader that ran last, and its tick. `None` if that cannot be known, since its schedule is running or removed.
    fn last_run(&self, schedules: &Schedules, now: Tick) -> Option<(Tick, DebugName)> {
        let mut newest: Option<(Tick, DebugName)> = None;
        for (label, reader) in &self.readers {
            let (_, system) = schedules.get(*label)?.systems().ok()?.find(|(key, _)| key == reader)?;
            let tick = system.get_last_run();
            if newest.as_ref().is_none_or(|(other, _)| tick.is_newer_than(*other, now)) {
                newest = Some((tick, system.name()));
            }
        }
        newest
    }
}

/// Reports a reader that runs again after messages were dropped unread. A game without a reader gets no report.
fn watch<M: Message>(
    messages: Res<Messages<M>>,
    schedules: Res<Schedules>,
    mut slow: ResMut<SlowReaders<M>>,
    ticks: SystemChangeTick,
) {
    let now = ticks.this_run();
    let slow = &mut *slow;
    let dropped = messages.oldest_message_count();
    slow.note_written(dropped + messages.len(), now);
    let due = slow.marks.front().is_some_and(|mark| mark.end <= dropped);
    if !due && slow.missed.is_none() {
        return;
    }
    let reader = slow.last_run(&schedules, now);
    slow.note_dropped(dropped, reader.as_ref().map(|(last_run, _)| *last_run), now);
    let (Some((count, written)), Some((last_run, name))) = (slow.missed, reader) else { return };
    if last_run.is_newer_than(written, now) {
        slow.reported = true;
        tracing::warn!(
            "{count} messages of the type `{}` were dropped before a system read them: `{name}` had not run for some \
             frames, and Bevy keeps a message for two frames or one fixed step. Read messages in `Update` or `FixedUpdate` \
             without a condition such as `on_timer`, and keep what is for later",
            ShortName::of::<M>(),
        );
    }
}

/// Finds the readers when Bevy builds a schedule and asks each system for its access.
struct FindReaders<M: Message> {
    schedule: InternedScheduleLabel,
    /// The systems that were asked before. Asking a system again would reset its change detection.
    asked: HashSet<SystemKey>,
    of: PhantomData<fn() -> M>,
}

impl<M: Message> fmt::Debug for FindReaders<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FindReaders").field("schedule", &self.schedule).finish_non_exhaustive()
    }
}

impl<M: Message> ScheduleBuildPass for FindReaders<M> {
    type EdgeOptions = ();

    fn add_dependency(&mut self, _: NodeId, _: NodeId, _: Option<&()>) {}

    fn collapse_set(
        &mut self,
        _: SystemSetKey,
        _: &IndexSet<SystemKey, FixedHasher>,
        _: &DiGraph<NodeId>,
    ) -> impl Iterator<Item = (NodeId, NodeId)> {
        std::iter::empty()
    }

    fn build(
        &mut self,
        world: &mut World,
        graph: &mut ScheduleGraph,
        _: FlattenedDependencies<'_>,
    ) -> Result<(), ScheduleBuildError> {
        let Some(messages) = world.components().get_id(TypeId::of::<Messages<M>>()) else { return Ok(()) };
        let new: Vec<_> = graph.systems.iter().map(|(key, ..)| key).filter(|key| self.asked.insert(*key)).collect();
        for key in new {
            let Some(system) = graph.systems.get_mut(key) else { continue };
            if system.system_type() == system_type(&watch::<M>) {
                continue;
            }
            let access = system.initialize(world);
            let access = access.combined_access();
            // A system that writes these messages sends its own, and access to the whole world does not imply a reader.
            if access.has_read(messages) && !access.has_write(messages) && !access.has_read_all() {
                world.get_resource_or_init::<SlowReaders<M>>().readers.push((self.schedule, key));
            }
        }
        Ok(())
    }
}

fn system_type<Marker, S: IntoSystem<(), (), Marker>>(_: &S) -> TypeId {
    TypeId::of::<S::System>()
}

/// Watches the readers of messages of this type. The messages are written in `PreUpdate`, before the end of `after`.
pub(super) fn watch_readers<M: Message>(app: &mut App, after: impl SystemSet) {
    let schedules = [
        First.intern(),
        PreUpdate.intern(),
        Update.intern(),
        PostUpdate.intern(),
        Last.intern(),
        FixedFirst.intern(),
        FixedPreUpdate.intern(),
        FixedUpdate.intern(),
        FixedPostUpdate.intern(),
        FixedLast.intern(),
    ];
    for schedule in schedules {
        app.edit_schedule(schedule, |edited| {
            edited.add_build_pass(FindReaders::<M> { schedule, asked: HashSet::default(), of: PhantomData });
        });
    }
    let wanted = |slow: Res<SlowReaders<M>>| !slow.reported && !slow.readers.is_empty();
    app.init_resource::<SlowReaders<M>>().add_systems(PreUpdate, watch::<M>.after(after).run_if(wanted));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bevy::time::{TimeUpdateStrategy, common_conditions::on_timer};

    use super::*;

    #[derive(Message)]
    struct Ping;

    #[derive(SystemSet, Clone, Debug, PartialEq, Eq, Hash)]
    struct Write;

    /// Runs 60 frames a second, and writes one message in each.
    fn app(add: impl FnOnce(&mut App)) -> App {
        let mut app = App::new();
        app.add_plugins(MinimalPlugins)
            .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_secs(1) / 60))
            .insert_resource(Time::<Fixed>::from_hz(20.0))
            .add_message::<Ping>()
            .add_systems(PreUpdate, (|mut pings: MessageWriter<Ping>| _ = pings.write(Ping)).in_set(Write));
        watch_readers::<Ping>(&mut app, Write);
        add(&mut app);
        for _ in 0..150 {
            app.update();
        }
        app
    }

    fn reported(app: &App) -> bool {
        app.world().resource::<SlowReaders<Ping>>().reported
    }

    fn read(mut pings: MessageReader<Ping>) {
        pings.read().for_each(drop);
    }

    #[derive(Resource, Default)]
    struct Open(bool);

    #[test]
    fn a_reader_that_runs_each_second_is_reported() {
        assert!(reported(&app(|app| _ = app.add_systems(Update, read.run_if(on_timer(Duration::from_secs(1)))))));
        let timer = on_timer(Duration::from_millis(500));
        assert!(reported(&app(|app| _ = app.add_systems(FixedUpdate, read.run_if(timer)))));
    }

    #[test]
    fn readers_that_keep_up_are_not() {
        assert!(!reported(&app(|app| _ = app.add_systems(Update, read))));
        assert!(!reported(&app(|app| _ = app.add_systems(PostUpdate, (read, || ())))));
        assert!(!reported(&app(|app| _ = app.add_systems(FixedUpdate, read))));
        // A reader in every second frame misses nothing, nor does one of two readers.
        let every_other = |mut turn: Local<bool>| {
            *turn = !*turn;
            *turn
        };
        assert!(!reported(&app(|app| _ = app.add_systems(Update, read.run_if(every_other)))));
        let slow = read.run_if(on_timer(Duration::from_secs(1)));
        assert!(!reported(&app(|app| _ = app.add_systems(Update, (slow, read)))));
    }

    #[test]
    fn a_game_that_does_not_read_is_not() {
        assert!(!reported(&app(|_| ())));
        let mut app = app(|app| {
            app.init_resource::<Open>().add_systems(Update, read.run_if(|open: Res<Open>| open.0));
        });
        assert!(!reported(&app), "it has not begun to read");
        app.world_mut().resource_mut::<Open>().0 = true;
        app.update();
        app.update();
        assert!(reported(&app), "it missed what came before");
    }

    #[test]
    fn a_paused_app_is_not() {
        let mut app = app(|app| _ = app.add_systems(FixedUpdate, read));
        app.world_mut().resource_mut::<Time<Virtual>>().pause();
        for _ in 0..100 {
            app.update();
        }
        app.world_mut().resource_mut::<Time<Virtual>>().unpause();
        for _ in 0..100 {
            app.update();
        }
        assert!(!reported(&app));
        assert!(app.world().resource::<SlowReaders<Ping>>().marks.len() <= MAX_MARKS);
    }
}
