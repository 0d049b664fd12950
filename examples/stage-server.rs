//! Runs stages of a model on demand, for programs that alternate them with other engines: `benches/peers/peers.py`.
//!
//! `stage-server MODEL [THREADS]` reads a command a line on standard input and answers each with a line:
//!
//! | command | answer |
//! |---|---|
//! | `inputs COARSE FINE` | `ok`; the files hold `[3, gP, gP]` and `[3, 2gP, 2gP]` normalised little-endian floats |
//! | `coarse`, `fine`, `full` | milliseconds of that one call; `fine` takes the cells that the last coarse pass asks for |
//! | `batch N` | milliseconds per image of a coarse pass, and of a fine pass, over N copies of the inputs at once |
//! | `logits`, `attention` | of the last call; of the last coarse pass |
//! | `cells` | the informative cells of the last choice |
//! | `threshold η` | `ok` |
//! | `photo PATH` | milliseconds from the file to the decision, the stage that answered, the coarse confidence |
//! | `peak` | the machine's GFLOP/s in fused multiply-adds, on as many threads |
//! | `describe` | engine, instruction set, threads |

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use cfvit::cascade::{Cascade, Lap};
use cfvit::engine::{self, FineFrame, cpu};
use cfvit::frame::{Choice, CoarseOutput, Inputs, Picture};
use cfvit::preprocess::{Preprocess, decode};
use cfvit::{bench, gather, model};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments.first().ok_or("usage: stage-server MODEL [THREADS]")?;
    let threads = arguments.get(1).map(|n| n.parse()).transpose()?.unwrap_or_else(cpu::physical_cores);
    let mut server = Server::open(Path::new(path), threads)?;
    for line in std::io::stdin().lock().lines() {
        let answer = server.answer(&line?)?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

/// A model and the memory of its last calls.
struct Server {
    cascade: Cascade,
    preprocess: Preprocess,
    picture: Picture,
    inputs: Inputs,
    coarse: CoarseOutput,
    choice: Choice,
    logits: Vec<f32>,
    batch: (Vec<CoarseOutput>, Vec<Vec<f32>>),
}

impl Server {
    fn open(path: &Path, threads: usize) -> Result<Self> {
        let model = model::open(Some(path), None)?;
        let preprocess = Preprocess::new(&model.geometry, model.crop)?;
        let cascade = Cascade::new(engine::open(model, Some(threads))?, 0.5);
        let (picture, inputs, coarse, choice, logits, batch) = Default::default();
        Ok(Self { cascade, preprocess, picture, inputs, coarse, choice, logits, batch })
    }

    fn answer(&mut self, line: &str) -> Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match words[..] {
            ["inputs", coarse, fine] => {
                self.inputs = Inputs { coarse: floats(coarse)?, fine: floats(fine)? };
                "ok".into()
            }
            [stage @ ("coarse" | "fine" | "full")] => self.stage(stage)?.to_string(),
            ["batch", n] => self.batch(n.parse()?)?,
            ["logits"] => join(&self.logits),
            ["attention"] => join(&self.coarse.class_attention),
            ["cells"] => join(&self.choice.informative),
            ["threshold", eta] => {
                self.cascade.set_threshold(eta.parse()?);
                "ok".into()
            }
            // The path may hold spaces.
            ["photo", ..] => self.photo(Path::new(line.strip_prefix("photo ").unwrap_or_default()))?,
            ["peak"] => self.peak_gflops()?.to_string(),
            ["describe"] => self.cascade.engine().describe(),
            _ => return Err(format!("unknown command `{line}`").into()),
        })
    }

    /// Runs one stage on the inputs; gives the milliseconds.
    fn stage(&mut self, stage: &str) -> Result<f64> {
        let engine = self.cascade.engine_mut();
        let mut clock = Lap::start();
        match stage {
            "coarse" => engine.coarse(&self.inputs.coarse, &mut self.coarse)?,
            "fine" => engine.fine(&self.inputs.fine, &self.choice, &mut self.logits)?,
            _ => engine.full(&self.inputs.fine, &mut self.logits)?,
        }
        let taken_ms = clock.lap_ms();
        if stage == "coarse" {
            self.logits.clone_from(&self.coarse.logits);
            let cells = self.cascade.engine().geometry().informative();
            gather::choose(&self.coarse.class_attention, cells, &mut self.choice);
        }
        Ok(taken_ms)
    }

    /// Both stages over `n` copies of the inputs at once; gives the milliseconds per image of each.
    fn batch(&mut self, n: usize) -> Result<String> {
        self.batch.0.resize(n, CoarseOutput::default());
        self.batch.1.resize(n, Vec::new());
        let engine = self.cascade.engine_mut();
        let mut clock = Lap::start();
        engine.coarse_batch(&vec![self.inputs.coarse.as_slice(); n], &mut self.batch.0)?;
        let coarse_ms = clock.lap_ms() / n as f64;
        gather::choose(&self.batch.0[0].class_attention, engine.geometry().informative(), &mut self.choice);
        let frame = |slot| FineFrame { slot, image: &self.inputs.fine, choice: &self.choice };
        let frames: Vec<_> = (0..n).map(frame).collect();
        clock.lap_ms();
        engine.fine_batch(&frames, &mut self.batch.1)?;
        Ok(format!("{coarse_ms} {}", clock.lap_ms() / n as f64))
    }

    /// The machine's peak now, on the engine's threads.
    fn peak_gflops(&mut self) -> Result<f64> {
        Ok(bench::peak::gflops(self.cascade.engine_mut()).ok_or("this engine measures no peak")?)
    }

    /// From a picture's file to its decision.
    fn photo(&mut self, path: &Path) -> Result<String> {
        let start = Instant::now();
        decode::read(path, &mut self.picture)?;
        self.preprocess.run(&self.picture, &mut self.inputs)?;
        let verdict = self.cascade.decide(&self.inputs)?;
        let taken_ms = start.elapsed().as_secs_f64() * 1e3;
        Ok(format!("{taken_ms} {} {}", verdict.stage.as_str(), verdict.coarse_confidence))
    }
}

fn floats(path: &str) -> Result<Vec<f32>> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

fn join<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}
