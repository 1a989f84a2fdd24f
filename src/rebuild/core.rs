//! What a rebuild does next: a pure function of what the database shows, and of little else. Whoever
//! was killed is replaced by one that looks at the same rows and goes on.

/// The log may grow by so much while the bulk of it is copied, and is copied again; the rest is told
/// with indexes.
pub const COPIED_WITHIN: i64 = 20_000;
/// How often it is copied again at most: a log that grows as fast is caught up with later.
const COPIES_MAX: u32 = 4;
/// From so near the head on, the old build can be made to wait for the rest.
pub const SWITCHED_WITHIN: i64 = 256;
/// How often the rest may be too long when the old build already waits, before it waits longer.
const PATIENCE: u32 = 4;
/// And how often in all.
const SWITCHES_MAX: u32 = 40;
/// How often it catches up without getting near enough.
const CHASES_MAX: u32 = 100;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// A new build, cut into so many partitions, takes the place of the one that is read.
    Rebuild {
        /// 1 to 256.
        partitions: i16,
    },
    /// The build that was read before does.
    RollBack,
}

/// A build that may take the place of the one that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its number.
    pub build: i32,
    /// Whether secondary indexes are still to be made.
    pub is_bare: bool,
    /// Of every partition.
    pub positions: Vec<i64>,
}

impl Candidate {
    fn reached(&self) -> i64 {
        self.positions.iter().copied().min().unwrap_or(0)
    }

    fn has(&self, partitions: i16) -> bool {
        self.positions.len() == usize::from(partitions.unsigned_abs())
    }
}

/// What the database shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The end of the log.
    pub head: i64,
    /// The build that is read, if there is one.
    pub active: Option<i32>,
    /// The newest one that is being filled.
    pub unfinished: Option<Candidate>,
    /// The one that was read last before the active one.
    pub retired: Option<Candidate>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make an empty build beside the one that is read.
    Begin {
        /// Into how many partitions it is cut.
        partitions: i16,
    },
    /// Drop an unfinished build that is not what is wanted.
    Discard {
        /// Which.
        build: i32,
    },
    /// Tell it the log in bulk.
    Copy {
        /// Which.
        build: i32,
        /// The last position to tell.
        up_to: i64,
    },
    /// Make the indexes that it was filled without.
    Index {
        /// Which.
        build: i32,
    },
    /// Tell it what has come since.
    CatchUp {
        /// Which.
        build: i32,
        /// The last position to tell.
        up_to: i64,
    },
    /// Have the old build wait, tell the new one the rest if it is not longer, and put it in its place.
    Switch {
        /// Which.
        build: i32,
        /// The longest rest, in positions.
        rest_max: i64,
    },
    /// It is read.
    Done {
        /// Which.
        build: i32,
    },
    /// It cannot be done.
    GiveUp(Reason),
}

/// Why it cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// There is no retired build.
    #[error("there is no build to go back to")]
    NothingBefore,
    /// Another build was put in place while this one was made ready.
    #[error("what is read was changed meanwhile; `jangbu builds` shows what it is now")]
    Overtaken,
    /// The log grows faster than it can be told.
    #[error("the log grows faster than the build can be told; try again at a quieter hour")]
    NeverCatchesUp,
}

/// Decides for one rebuild or roll-back.
#[derive(Debug)]
pub struct Core {
    goal: Goal,
    /// The build that this one works on, once known.
    ours: Option<i32>,
    is_done: bool,
    copies: u32,
    chases: u32,
    switches: u32,
}

impl Core {
    /// Begins, or goes on with what another one left.
    pub const fn new(goal: Goal) -> Self {
        Self {
            goal,
            ours: None,
            is_done: false,
            copies: 0,
            chases: 0,
            switches: 0,
        }
    }

    /// It has switched: that is all, whatever others make of it.
    pub const fn switched(&mut self) {
        self.is_done = true;
    }

    /// What to do, as the database is now. To be asked again when that is done.
    pub fn next(&mut self, seen: &Seen) -> Action {
        if let Some(ours) = self.ours
            && (self.is_done || seen.active == Some(ours))
        {
            return Action::Done { build: ours };
        }
        match self.goal {
            Goal::Rebuild { partitions } => self.rebuild(partitions, seen),
            Goal::RollBack => match &seen.retired {
                None => Action::GiveUp(Reason::NothingBefore),
                Some(retired) => {
                    // Once chosen it stays the one: what is retired meanwhile may be what it is to replace.
                    if *self.ours.get_or_insert(retired.build) == retired.build {
                        self.near(retired, seen.head)
                    } else {
                        Action::GiveUp(Reason::Overtaken)
                    }
                }
            },
        }
    }

    fn rebuild(&mut self, partitions: i16, seen: &Seen) -> Action {
        let Some(unfinished) = &seen.unfinished else {
            return Action::Begin { partitions };
        };
        let build = unfinished.build;
        if !unfinished.has(partitions) {
            return Action::Discard { build };
        }
        self.ours = Some(build);
        if !unfinished.is_bare {
            return self.near(unfinished, seen.head);
        }
        let behind = seen.head - unfinished.reached();
        let up_to = seen.head;
        if behind > 0 && (self.copies == 0 || behind > COPIED_WITHIN && self.copies < COPIES_MAX) {
            self.copies += 1;
            return Action::Copy { build, up_to };
        }
        Action::Index { build }
    }

    /// Catches up until the rest is short, then switches.
    fn near(&mut self, candidate: &Candidate, head: i64) -> Action {
        let build = candidate.build;
        if head - candidate.reached() > SWITCHED_WITHIN {
            if self.chases == CHASES_MAX {
                return Action::GiveUp(Reason::NeverCatchesUp);
            }
            self.chases += 1;
            return Action::CatchUp { build, up_to: head };
        }
        if self.switches == SWITCHES_MAX {
            return Action::GiveUp(Reason::NeverCatchesUp);
        }
        self.switches += 1;
        // Under a load that never lets it come near, the old build waits a little longer each time.
        let times = 1_i64 << (self.switches / PATIENCE).min(6);
        Action::Switch {
            build,
            rest_max: 2 * SWITCHED_WITHIN * times,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(head: i64, unfinished: Option<(bool, [i64; 2])>) -> Seen {
        Seen {
            head,
            active: Some(1),
            unfinished: unfinished.map(|(is_bare, positions)| Candidate {
                build: 2,
                is_bare,
                positions: positions.to_vec(),
            }),
            retired: None,
        }
    }

    #[test]
    fn it_copies_then_indexes_then_catches_up_then_switches() {
        let mut core = Core::new(Goal::Rebuild { partitions: 2 });
        assert_eq!(core.next(&seen(900, None)), Action::Begin { partitions: 2 });
        let copy = Action::Copy { build: 2, up_to: 900 };
        assert_eq!(core.next(&seen(900, Some((true, [0, 0])))), copy);
        let index = Action::Index { build: 2 };
        assert_eq!(core.next(&seen(950, Some((true, [900, 900])))), index);
        let far = seen(2_000, Some((false, [900, 1_900])));
        assert_eq!(core.next(&far), Action::CatchUp { build: 2, up_to: 2_000 });
        let near = seen(2_010, Some((false, [2_000, 2_000])));
        assert!(matches!(core.next(&near), Action::Switch { build: 2, .. }));
        let done = Seen {
            active: Some(2),
            ..seen(2_010, None)
        };
        assert_eq!(core.next(&done), Action::Done { build: 2 });
    }

    #[test]
    fn what_was_left_of_another_cut_is_dropped() {
        let mut core = Core::new(Goal::Rebuild { partitions: 4 });
        let left = seen(900, Some((true, [0, 0])));
        assert_eq!(core.next(&left), Action::Discard { build: 2 });
    }

    #[test]
    fn an_empty_log_is_switched_to_at_once() {
        let mut core = Core::new(Goal::Rebuild { partitions: 2 });
        assert_eq!(core.next(&seen(0, Some((true, [0, 0])))), Action::Index { build: 2 });
        let ready = seen(0, Some((false, [0, 0])));
        assert!(matches!(core.next(&ready), Action::Switch { .. }));
    }

    #[test]
    fn it_goes_back_only_to_what_is_there() {
        let mut core = Core::new(Goal::RollBack);
        assert_eq!(core.next(&seen(9, None)), Action::GiveUp(Reason::NothingBefore));
    }

    #[test]
    fn it_goes_back_to_nothing_else_than_what_it_chose() {
        let mut core = Core::new(Goal::RollBack);
        let retired = |build| {
            Some(Candidate {
                build,
                is_bare: false,
                positions: vec![9, 9],
            })
        };
        let before = Seen {
            active: Some(3),
            retired: retired(2),
            ..seen(9, None)
        };
        assert!(matches!(core.next(&before), Action::Switch { build: 2, .. }));
        let other = Seen {
            active: Some(4),
            retired: retired(3),
            ..seen(9, None)
        };
        assert_eq!(core.next(&other), Action::GiveUp(Reason::Overtaken));
        // Unless it was put in place before that, which its answer did not say.
        let done = Seen {
            active: Some(2),
            retired: retired(3),
            ..seen(9, None)
        };
        assert_eq!(core.next(&done), Action::Done { build: 2 });
    }

    #[test]
    fn it_ends_even_if_it_never_comes_near() {
        let mut core = Core::new(Goal::Rebuild { partitions: 2 });
        let mut head = 0;
        let gave_up = (0..1_000).any(|_| {
            head += 10_000;
            let behind = seen(head, Some((false, [head - 5_000; 2])));
            core.next(&behind) == Action::GiveUp(Reason::NeverCatchesUp)
        });
        assert!(gave_up);
    }
}
