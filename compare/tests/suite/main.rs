//! Tests of the whole program: [`figures`] against servers with known faults, [`foreign`] against one that
//! does not speak the lab's protocol, [`diff`] of two results, [`failures`] of everything else.

mod diff;
mod failures;
mod figures;
mod foreign;
mod program;
