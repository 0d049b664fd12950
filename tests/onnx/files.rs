//! `cfvit export` as a process.
