//! CF-ViT on edge devices: a coarse pass over every frame, a fine pass only where it is needed.
//!
//! `ARCHITECTURE.md` is the map. A frame moves forward through `capture → preprocess → coarse → gate → gather → fine →
//! report`; a module uses only what stands above it in this list.

pub mod clock;
pub mod episode;
pub mod error;
pub mod files;
pub mod frame;
pub mod logging;
pub mod machine;
pub mod stats;

pub mod model;
pub mod plan;

pub mod engine;
pub mod gate;
pub mod gather;

pub mod fallback;

pub mod cascade;
pub mod preprocess;
pub mod smoothing;

pub mod capture;
pub mod power;
pub mod report;

pub mod bench;
pub mod build;
pub mod calibrate;
pub mod doctor;
pub mod eval;
pub mod html;
pub mod plot;

pub mod config;

pub mod pipeline;

pub mod examples;
pub mod guard;
pub mod service;

pub mod operator;

pub mod cli;

/// The commit that the program was built from; `None` where the build could not tell.
pub fn revision() -> Option<&'static str> {
    option_env!("CFVIT_REVISION").filter(|revision| !revision.is_empty())
}
