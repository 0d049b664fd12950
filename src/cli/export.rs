//! `cfvit export`: a model's stages as ONNX files.

use std::fs;
use std::path::PathBuf;

use super::{PrecisionArg, print};
use crate::error::{Error, Kind, Result};
use crate::model;
use crate::model::onnx::{self, Binding, Graph, MAX_BATCH, Options, Precision};

/// Write a model's stages as ONNX graphs (opset 17, static shapes), for TensorRT and other compilers.
///
/// Two files: coarse.onnx and fine.onnx. The gate stands between them: whoever runs them chooses the cells from class_attention and gives
/// them to the fine graph as indices. Prints the files with their inputs and outputs. The same arguments make the same bytes.
#[derive(clap::Args)]
#[command(
    after_long_help = "Exit codes: 0 done, 1 the model could not be read or a file not be written, 2 wrong usage.\n\n\
    Examples:\n  cfvit export --model my_checkpoint.pth --precision fp16 --out onnx\n  \
    cfvit export --precision fp32 --static --batch 8 --out onnx"
)]
pub struct Args {
    /// A checkpoint (.pth, .safetensors) or an engine package folder [default: the bundled Imagenette model]
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Attention heads, where neither the file nor head_dim 64 says it right
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// Number format of weights and activations; inputs that are pictures, logits and class attention are always fp32
    #[arg(long, value_name = "TYPE")]
    precision: PrecisionArg,
    /// Pictures at a time; the graphs take exactly this many
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..=MAX_BATCH as u64))]
    batch: u64,
    /// Also write static.onnx: the same weights over all fine tokens in one pass, the baseline to measure against
    #[arg(long = "static")]
    with_static: bool,
    /// The folder for the files; made if it is not there, files of these names in it are replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs the subcommand.
///
/// # Errors
/// As [`model::open`] and [`onnx::export_to_file`], or when the folder cannot be made.
pub fn run(args: Args) -> Result<()> {
    let precision = Precision::from(args.precision);
    let options = Options { precision, batch: args.batch as usize };
    let model = model::open(args.model.as_deref(), args.heads)?;
    let shown = args.out.display();
    fs::create_dir_all(&args.out).map_err(|e| Error::caused(Kind::Io, format!("cannot make the folder {shown}"), e))?;
    print(format_args!("{}: {}, {}, batch {}", model.name, model.geometry, precision.as_str(), options.batch))?;
    let graphs = [Some(Graph::Coarse), Some(Graph::Fine), args.with_static.then_some(Graph::Static)];
    for graph in graphs.into_iter().flatten() {
        let path = args.out.join(graph.file_name());
        let bytes = onnx::export_to_file(&model, options, graph, &path)?;
        print(format_args!("{}  {:.1} MB", path.display(), bytes as f64 / 1e6))?;
        let bindings = onnx::bindings(&model.geometry, options, graph);
        bindings.inputs.iter().try_for_each(|binding| print_binding("input ", binding))?;
        bindings.outputs.iter().try_for_each(|binding| print_binding("output", binding))?;
    }
    Ok(())
}

fn print_binding(direction: &str, binding: &Binding) -> Result<()> {
    let Binding { name, element, shape } = binding;
    print(format_args!("  {direction}  {name:<16}  {}  {shape:?}", element.as_str()))
}
