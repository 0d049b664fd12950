//! Pictures for training, collected where the model runs: those that an operator asks for, and those that are worth a person's look.
//!
//! ```text
//! FOLDER/inbox/20261125T031344.123Z-door-4711.jpg       not labelled yet; beside it the same name with .json: what was decided
//! FOLDER/train/CLASS/…                                   labelled; CLASS is the label's id
//! FOLDER/val/CLASS/…                                     one ten-minute block of five
//! ```
//! The decision thread copies a wanted frame, at most one per camera and interval, and never waits; a thread of its own writes. What is
//! full, or broken, stops the collecting and no frame.

mod example;
mod hash;
mod name;
mod pick;
mod shelf;
mod store;

pub use example::{About, Example, Reason};
pub use hash::{difference_hash, distance};
pub use name::{Name, Split, folders};
pub use pick::{Picker, Seen, wanted};
pub use shelf::{Counts, Place, Shelf, Writer, start};
pub use store::{Entry, Limits, Store, Usage, Whereabouts, entries, remove};
