//! Prints the lines of objects as a Rust library decodes them:
//!
//!     readers zstd|async-compression FILE...

use std::fs::File;
use std::io;

use async_compression::tokio::bufread::ZstdDecoder;
use tokio::io::BufReader;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let library = args.next().unwrap_or_default();
    println!("{}", version(&library));
    for file in args {
        if library == "zstd" {
            zstd::stream::copy_decode(File::open(&file)?, io::stdout())?;
        } else {
            let mut lines = ZstdDecoder::new(BufReader::new(tokio::fs::File::open(&file).await?));
            tokio::io::copy(&mut lines, &mut tokio::io::stdout()).await?;
        }
    }
    tokio::io::AsyncWriteExt::flush(&mut tokio::io::stdout()).await
}

/// The version of a library that Cargo.toml pins.
fn version(library: &str) -> &str {
    include_str!("../Cargo.toml")
        .lines()
        .find(|line| line.starts_with(&format!("{library} = ")))
        .and_then(|line| line.split_once("\"="))
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("", |(version, _)| version)
}
