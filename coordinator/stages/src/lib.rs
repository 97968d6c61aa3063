//! The stages of a task as pure functions of recorded inputs. No I/O, no clock, no randomness.
