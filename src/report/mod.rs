//! What the program tells: answers for people and for other programs.

pub mod answer;
pub mod figure;
pub mod text;
