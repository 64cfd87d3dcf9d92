//! Tests of the whole program: [`figures`] against servers with known faults, [`failures`] of everything else.

mod diff;
mod failures;
mod figures;
mod program;
