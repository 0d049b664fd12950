//! Makes `defaults.h` from NVIDIA's headers: for each interface a class `Default…` whose every method ends the process, so that the stand-in
//! spells out just the methods that it has.

use std::fmt::Write;

/// The interfaces that `nvinfer.cc` implements: header, namespace, name.
const INTERFACES: [(&str, &str, &str); 11] = [
    ("NvInferImpl.h", "nvinfer1::apiv", "VHostMemory"),
    ("NvInferImpl.h", "nvinfer1::apiv", "VRuntime"),
    ("NvInferImpl.h", "nvinfer1::apiv", "VCudaEngine"),
    ("NvInferImpl.h", "nvinfer1::apiv", "VExecutionContext"),
    ("NvInferImpl.h", "nvinfer1::apiv", "VEngineInspector"),
    ("NvInferImpl.h", "nvinfer1::apiv", "VBuilder"),
    ("NvInferImpl.h", "nvinfer1::apiv", "VBuilderConfig"),
    ("NvInferImpl.h", "nvinfer1::apiv", "VNetworkDefinition"),
    ("NvInferImpl.h", "nvinfer1::apiv", "VTimingCache"),
    ("NvOnnxParser.h", "nvonnxparser", "IParser"),
    ("NvOnnxParser.h", "nvonnxparser", "IParserError"),
];

/// The text of `defaults.h`; `read` gives the text of a header.
pub fn header(read: impl Fn(&str) -> String) -> String {
    let mut text = "// Made by defaults.rs.\n#pragma once\n#include \"standin.h\"\n".to_owned();
    for (file, namespace, name) in INTERFACES {
        let header = without_comments(&read(file));
        writeln!(text, "namespace {namespace} {{\nclass Default{name} : public {name} {{\n  public:").unwrap();
        for method in pure_methods(&header, name) {
            let called = method[..method.find('(').unwrap()].split([' ', '*', '&']).next_back().unwrap();
            let message = format!("{name}::{called} was called, which the stand-in has not");
            writeln!(text, "    {method} override {{ standin_violation(\"%s\", \"{message}\"); }}").unwrap();
        }
        writeln!(text, "}};\n}}").unwrap();
    }
    text
}

/// The declarations of the pure virtual methods of the class `name`.
fn pure_methods<'a>(header: &'a str, name: &str) -> Vec<&'a str> {
    let start = header.find(&format!("class {name} : public")).or_else(|| header.find(&format!("class {name}\n")));
    let body = &header[start.unwrap_or_else(|| panic!("no class {name} in the headers"))..];
    let body = &body[..body.find("\n};").unwrap()];
    let declaration = |statement: &'a str| {
        let declaration = statement.trim_end().strip_suffix("= 0")?;
        Some(declaration[declaration.rfind("virtual ")? + "virtual ".len()..].trim())
    };
    body.split(';').filter_map(declaration).collect()
}

fn without_comments(header: &str) -> String {
    header.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}
