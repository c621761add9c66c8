//! Compiles kernels for the device at hand with NVRTC and keeps what was compiled.

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::{Path, PathBuf};

use cudarc::nvrtc::sys;

use super::backend::{GpuError, GpuResult};
use super::kernel::{COMMON, Module};
use crate::engine::device::has_library;

/// What the sources include; its text is put in place of this line.
const INCLUDE: &str = "#include \"common.cuh\"\n";

/// Compiles modules for one architecture.
pub(super) struct Compiler {
    /// e.g. `sm_90`, or `compute_90` where NVRTC is older than the device: the driver then finishes the work.
    architecture: String,
    /// Part of every cache key: compiler version and architecture.
    target: String,
    cache: Option<PathBuf>,
    /// Why NVRTC cannot be used; modules may still be in the cache.
    missing: Option<String>,
}

impl Compiler {
    pub(super) fn new(compute_capability: (u32, u32)) -> Self {
        let device = compute_capability.0 * 10 + compute_capability.1;
        let cache = cache_directory();
        if !has_library("libnvrtc.so.13") {
            // A cache filled by another run can do without the compiler: its version is written beside the images.
            let version = cache.as_deref().and_then(|cache| std::fs::read_to_string(cache.join("nvrtc-version")).ok());
            return Self {
                architecture: format!("sm_{device}"),
                target: format!("{} sm_{device}", version.unwrap_or_default()),
                cache,
                missing: Some(
                    "libnvrtc cannot be loaded (libnvrtc.so.13 of the CUDA toolkit must be on LD_LIBRARY_PATH)"
                        .to_owned(),
                ),
            };
        }
        let architecture = match supported_architectures() {
            Ok(known) if known.contains(&device) => format!("sm_{device}"),
            Ok(known) => match known.iter().filter(|one| **one <= device).max() {
                Some(older) => format!("compute_{older}"),
                None => format!("sm_{device}"),
            },
            Err(_) => format!("sm_{device}"),
        };
        let version = version();
        if let Some(cache) = &cache {
            // Without it the compiler is asked every time, which is slower and no error.
            let _ = std::fs::create_dir_all(cache);
            let _ = std::fs::write(cache.join("nvrtc-version"), &version);
        }
        Self { target: format!("{version} {architecture}"), architecture, cache, missing: None }
    }

    /// The image of `module`, a cubin or PTX text with its final zero, from the cache or from the compiler.
    pub(super) fn image(&self, module: &Module) -> GpuResult<Vec<u8>> {
        let file = self.cache.as_ref().map(|cache| cache.join(format!("{}.cubin", module.hash(&self.target))));
        if let Some(bytes) = file.as_ref().and_then(|file| read_image(file)) {
            return Ok(bytes);
        }
        if let Some(missing) = &self.missing {
            return Err(GpuError::new(format!("compiling {}", module.name()), missing));
        }
        let bytes = compile(module, &self.architecture)?;
        if let Some(file) = &file {
            store(file, &bytes);
        }
        Ok(bytes)
    }
}

/// The text NVRTC gets.
fn source_text(module: &Module) -> String {
    // Line numbers of messages are those of the file.
    let common = format!("#line 1 \"{}\"\n{}\n#line 2 \"{}\"\n", COMMON.name, COMMON.text, module.source.name);
    module.source.text.replacen(INCLUDE, &common, 1)
}

/// The options NVRTC gets, apart from the architecture.
fn options(module: &Module, architecture: &str) -> Vec<String> {
    let mut options = vec![
        format!("--gpu-architecture={architecture}"),
        "--std=c++17".to_owned(),
        // So that ncu can show the lines of a kernel.
        "--generate-line-info".to_owned(),
    ];
    options.extend(module.defines.iter().map(|(name, value)| format!("-D{name}={value}")));
    options
}

/// A program that is given back in every case.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the handle came from `nvrtcCreateProgram` and is destroyed once.
        unsafe { sys::nvrtcDestroyProgram(&raw mut self.0) };
    }
}

fn compile(module: &Module, architecture: &str) -> GpuResult<Vec<u8>> {
    let what = || format!("compiling {}", module.name());
    let c_string = |text: &str| CString::new(text).map_err(|error| GpuError::new(what(), error));
    let (text, name) = (c_string(&source_text(module))?, c_string(module.source.name)?);
    let mut handle = std::ptr::null_mut();
    // SAFETY: both strings end in zero and outlive the call; there are no headers.
    let created = unsafe {
        sys::nvrtcCreateProgram(&raw mut handle, text.as_ptr(), name.as_ptr(), 0, std::ptr::null(), std::ptr::null())
    };
    created.result().map_err(|error| GpuError::new(what(), error))?;
    let program = Program(handle);
    let options = options(module, architecture).iter().map(|option| c_string(option)).collect::<GpuResult<Vec<_>>>()?;
    let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    // SAFETY: the pointers are to strings that live on.
    let compiled = unsafe { sys::nvrtcCompileProgram(program.0, pointers.len() as c_int, pointers.as_ptr()) };
    if let Err(error) = compiled.result() {
        return Err(GpuError::new(what(), format!("{error}\n{}", log(&program))));
    }
    let binary = architecture.starts_with("sm_");
    let mut size = 0;
    // SAFETY: `size` is a place for the answer.
    let asked = unsafe {
        if binary {
            sys::nvrtcGetCUBINSize(program.0, &raw mut size)
        } else {
            sys::nvrtcGetPTXSize(program.0, &raw mut size)
        }
    };
    asked.result().map_err(|error| GpuError::new(what(), error))?;
    let mut bytes = vec![0_u8; size];
    // SAFETY: the buffer has the size asked for.
    let read = unsafe {
        let buffer = bytes.as_mut_ptr().cast::<c_char>();
        if binary { sys::nvrtcGetCUBIN(program.0, buffer) } else { sys::nvrtcGetPTX(program.0, buffer) }
    };
    read.result().map_err(|error| GpuError::new(what(), error))?;
    Ok(bytes)
}

fn log(program: &Program) -> String {
    let mut size = 0;
    // SAFETY: `size` is a place for the answer.
    if unsafe { sys::nvrtcGetProgramLogSize(program.0, &raw mut size) }.result().is_err() || size == 0 {
        return String::new();
    }
    let mut text = vec![0_u8; size];
    // SAFETY: the buffer has the size asked for.
    if unsafe { sys::nvrtcGetProgramLog(program.0, text.as_mut_ptr().cast()) }.result().is_err() {
        return String::new();
    }
    CStr::from_bytes_until_nul(&text).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

fn version() -> String {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both are places for the answer.
    let asked = unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    if asked.result().is_ok() { format!("nvrtc {major}.{minor}") } else { "nvrtc".to_owned() }
}

/// Architectures this NVRTC knows, e.g. 90.
fn supported_architectures() -> GpuResult<Vec<u32>> {
    let failed = |error| GpuError::new("asking NVRTC for its architectures", format!("{error}"));
    let mut count = 0;
    // SAFETY: `count` is a place for the answer.
    unsafe { sys::nvrtcGetNumSupportedArchs(&raw mut count) }.result().map_err(failed)?;
    let mut known = vec![0; count as usize];
    // SAFETY: there is room for as many as were promised.
    unsafe { sys::nvrtcGetSupportedArchs(known.as_mut_ptr()) }.result().map_err(failed)?;
    Ok(known.into_iter().map(|one: c_int| one as u32).collect())
}

/// `PERFPROF_KERNEL_CACHE`, else a folder of the user's cache; `None` where there is neither.
fn cache_directory() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("PERFPROF_KERNEL_CACHE").or_else(|| {
        let base = from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(".cache")))?;
        Some(base.join("perfprof").join("kernels"))
    })
}

/// A file that was cut short is no image: its length is in front.
fn read_image(file: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::read(file).ok()?;
    let (length, image) = bytes.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*length) == image.len() as u64 && !image.is_empty()).then(|| image.to_vec())
}

/// Stores an image under its final name at once; a cache that cannot be written costs time and nothing else.
fn store(file: &Path, image: &[u8]) {
    let Some(directory) = file.parent() else { return };
    let write = || -> std::io::Result<()> {
        let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
        std::io::Write::write_all(&mut temporary, &(image.len() as u64).to_le_bytes())?;
        std::io::Write::write_all(&mut temporary, image)?;
        temporary.persist(file)?;
        Ok(())
    };
    if let Err(error) = write() {
        tracing::debug!(file = %file.display(), %error, "the compiled kernel was not kept");
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::{SOURCES, Source};
    use super::*;

    #[test]
    fn every_source_includes_what_is_put_in_its_place() {
        for source in SOURCES {
            let text = source_text(&Module::new(*source, &[]));
            assert_eq!(text.matches("#include").count(), 0, "{} includes something NVRTC will not find", source.name);
            assert!(text.contains("#line 1 \"common.cuh\""), "{}", source.name);
        }
    }

    #[test]
    fn a_torn_image_is_not_taken_for_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.cubin");
        store(&file, b"image");
        assert_eq!(read_image(&file).unwrap(), b"image");
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        assert!(read_image(&file).is_none());
        std::fs::write(&file, b"").unwrap();
        assert!(read_image(&file).is_none());
    }

    /// Needs libnvrtc, not a GPU: `scripts/cuda-toolkit.sh --runtime` fetches it.
    #[test]
    fn nvrtc_compiles_a_module_and_names_the_line_of_a_mistake() {
        if !has_library("libnvrtc.so.13") {
            eprintln!("skipped: libnvrtc cannot be loaded");
            return;
        }
        let good =
            Source { name: "good.cu", text: "extern \"C\" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }\n" };
        assert!(compile(&Module::new(good, &[]), "sm_90").unwrap().starts_with(b"\x7fELF"));
        let bad = Source { name: "bad.cu", text: "\nextern \"C\" __global__ void broken() { missing(); }\n" };
        let error = compile(&Module::new(bad, &[]), "sm_90").unwrap_err();
        assert!(error.reason.contains("bad.cu(2)"), "{error}");
    }

    /// Every source as the engine compiles it, for the oldest and the newest device we name.
    #[test]
    fn nvrtc_compiles_every_kernel() {
        if !has_library("libnvrtc.so.13") {
            eprintln!("skipped: libnvrtc cannot be loaded");
            return;
        }
        for source in SOURCES {
            for half in [0, 1] {
                for architecture in ["sm_80", "sm_90"] {
                    let module = Module::new(*source, &[("PP_T", half)]);
                    let image = compile(&module, architecture).unwrap_or_else(|error| panic!("{error}"));
                    assert!(image.starts_with(b"\x7fELF"), "{} {architecture}", module.name());
                }
            }
        }
    }
}
