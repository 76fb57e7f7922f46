//! Keeps the program small: compresses the files of Swagger UI that the page at `/docs` loads, and tells the linker. Tells
//! the program when it was built.

use std::error::Error;
use std::fs::File;
use std::io::{self, Cursor};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

#[path = "../build/link.rs"]
mod link;

/// What `src/http/docs/index.html` names; the archive holds as much again that no browser asks for.
const SWAGGER_UI_FILES: [&str; 4] =
    ["favicon-32x32.png", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js", "swagger-ui.css"];

#[expect(
    clippy::disallowed_methods,
    reason = "only its environment tells a build script what to build, where and when"
)]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse::<u64>().ok());
    let built = given.map_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()), Ok)?;
    println!("cargo::rustc-env=PROGRESSDB_BUILT={built}");
    compress_swagger_ui(Path::new(&std::env::var("OUT_DIR")?))?;
    Ok(link::link_small()?)
}

fn compress_swagger_ui(out: &Path) -> Result<(), Box<dyn Error>> {
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    let top = archive.by_index(0)?.name()?.into_owned();
    for name in SWAGGER_UI_FILES {
        let mut file = archive.by_name(&format!("{top}dist/{name}"))?;
        let mut encoder = GzEncoder::new(File::create(out.join(format!("{name}.gz")))?, Compression::best());
        io::copy(&mut file, &mut encoder)?;
        encoder.finish()?;
    }
    Ok(())
}
