//! Modules compiled for the host, and their loading.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use perfprof::engine::gpu::backend::{GpuError, GpuResult};
use perfprof::engine::gpu::kernel::{COMMON, Module};

/// The sanitizers' calls are answered by the emulation, so their library is not linked.
const FLAGS: [&str; 7] =
    ["-O2", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing", "-fsanitize=alignment,bounds", "-w"];

/// How threads, warps and blocks take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// By their numbers.
    Forward,
    /// At random; the seed is not 0.
    Random(u64),
}

type LaunchFn = unsafe extern "C" fn(*const c_char, *const c_uint, *const c_uint, c_uint, *const *mut c_void) -> c_int;

/// A shared object made of a module.
pub(crate) struct Loaded {
    launch: LaunchFn,
    message: unsafe extern "C" fn() -> *const c_char,
    order: unsafe extern "C" fn(u64),
    parameters: unsafe extern "C" fn(*const c_char) -> *const c_char,
    /// Bytes of its shared arrays.
    pub(crate) static_shared: u32,
}

/// A module's state is shared by all who loaded it, and the handlers of signals by the whole process: one launch at a time.
static RUNNING: Mutex<()> = Mutex::new(());

impl Loaded {
    fn open(path: &Path) -> Result<Self, String> {
        let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: the name ends in NUL; the object was made by `build`, its constructor only reads the environment.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            // SAFETY: dlerror gives a string that lives until the next call on this thread.
            return Err(unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy().into_owned());
        }
        let symbol = |name: &CStr| {
            // SAFETY: the handle is open and is never closed.
            let at = unsafe { libc::dlsym(handle, name.as_ptr()) };
            if at.is_null() { Err(format!("it does not export {}", name.to_string_lossy())) } else { Ok(at) }
        };
        let (launch, message) = (symbol(c"pp_launch")?, symbol(c"pp_message")?);
        let (order, parameters, shared) =
            (symbol(c"pp_order")?, symbol(c"pp_parameters")?, symbol(c"pp_static_shared")?);
        // SAFETY: the types are those of launch.hpp.
        unsafe {
            let shared = std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_uint>(shared);
            Ok(Self {
                launch: std::mem::transmute::<*mut c_void, LaunchFn>(launch),
                message: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> *const c_char>(message),
                order: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(u64)>(order),
                parameters: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*const c_char) -> *const c_char>(
                    parameters,
                ),
                static_shared: shared(),
            })
        }
    }

    /// One letter per parameter of a kernel, as launch.hpp defines them; `None` where there is no such kernel.
    pub(crate) fn parameters(&self, function: &str) -> Option<String> {
        let name = CString::new(function).ok()?;
        // SAFETY: the name ends in NUL; the answer is null or a constant of the object.
        unsafe {
            let letters = (self.parameters)(name.as_ptr());
            (!letters.is_null()).then(|| CStr::from_ptr(letters).to_string_lossy().into_owned())
        }
    }

    /// Runs a kernel whose arguments were checked against [`Self::parameters`]; each is the bytes of its value.
    pub(crate) fn launch(
        &self,
        function: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u32,
        args: &mut [u64],
        order: Option<Order>,
    ) -> Result<(), String> {
        let name = CString::new(function).map_err(|error| error.to_string())?;
        let pointers: Vec<*mut c_void> = args.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the arguments match the parameters; whatever else the kernel does wrong the emulation reports, or the test dies of.
        unsafe {
            match order {
                Some(Order::Forward) => (self.order)(0),
                Some(Order::Random(seed)) => (self.order)(seed.max(1)),
                None => {}
            }
            match (self.launch)(name.as_ptr(), grid.as_ptr(), block.as_ptr(), shared_bytes, pointers.as_ptr()) {
                0 => Ok(()),
                1 => Err(format!("there is no kernel `{function}`")),
                _ => Err(CStr::from_ptr((self.message)()).to_string_lossy().into_owned()),
            }
        }
    }
}

fn compiler() -> String {
    std::env::var("CXX").ok().filter(|value| !value.is_empty()).unwrap_or_else(|| "c++".to_owned())
}

/// Compiler, flags and the emulation itself: what decides, beside a module, what its compilation gives. An error says why nothing can be
/// compiled.
fn target() -> &'static Result<String, String> {
    static TARGET: OnceLock<Result<String, String>> = OnceLock::new();
    TARGET.get_or_init(|| {
        let compiler = compiler();
        let output = Command::new(&compiler).arg("--version").output();
        let output = output.map_err(|error| format!("`{compiler} --version` cannot be run: {error}"))?;
        if !output.status.success() {
            return Err(format!("`{compiler} --version` failed"));
        }
        let mut target = format!("{compiler} {} {FLAGS:?}", String::from_utf8_lossy(&output.stdout));
        for name in ["emulation.hpp", "scheduler.hpp", "warp.hpp", "launch.hpp"] {
            let path = directory().join(name);
            // Part of this repository: without it the tests must fail, not be skipped.
            target += &fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        Ok(target)
    })
}

/// Why kernels cannot be compiled for the host here, if so.
pub(crate) fn unavailable() -> Option<&'static str> {
    target().as_ref().err().map(String::as_str)
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/emulation")
}

/// The module, compiled if nobody did that before.
pub(crate) fn load(module: &Module) -> GpuResult<Arc<Loaded>> {
    static LOADED: Mutex<Option<HashMap<String, Arc<Loaded>>>> = Mutex::new(None);
    let error = |reason: String| GpuError::new(format!("compiling {} for the host", module.name()), reason);
    let target = target().as_ref().map_err(|reason| error(reason.clone()))?;
    let hash = module.hash(target);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.get_or_insert_with(HashMap::new);
    if let Some(found) = loaded.get(&hash) {
        return Ok(Arc::clone(found));
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulated-kernels");
    let path = cache.join(format!("{hash}.so"));
    if !path.exists() {
        build(module, &cache, &path).map_err(error)?;
    }
    let object = Arc::new(Loaded::open(&path).map_err(error)?);
    loaded.insert(hash, Arc::clone(&object));
    Ok(object)
}

/// Compiles in a folder of its own and moves the result into place, so that other processes find all of it or nothing.
fn build(module: &Module, cache: &Path, path: &Path) -> Result<(), String> {
    fs::create_dir_all(cache).map_err(|error| error.to_string())?;
    let work = tempfile::tempdir_in(cache).map_err(|error| error.to_string())?;
    let source = work.path().join("module.cpp");
    fs::write(&source, translation_unit(module)).map_err(|error| error.to_string())?;
    let (object, shared) = (work.path().join("module.o"), work.path().join("module.so"));
    let mut compile = Command::new(compiler());
    compile.args(FLAGS).arg("-DPP_EMULATE");
    for (name, value) in &module.defines {
        compile.arg(format!("-D{name}={value}"));
    }
    compile.arg("-include").arg(directory().join("emulation.hpp"));
    run(compile.arg("-c").arg("-o").arg(&object).arg(&source))?;
    run(Command::new(compiler()).args(["-shared", "-Wl,-Bsymbolic", "-o"]).arg(&shared).arg(&object))?;
    fs::rename(&shared, path).map_err(|error| error.to_string())
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("the compiler cannot be run: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// The source with what it includes, in a namespace of its own so that nothing of it is merged with another module's, and the table of its
/// kernels.
fn translation_unit(module: &Module) -> String {
    let name = module.source.name;
    let mut text = format!("namespace {{\n#line 1 \"{name}\"\n");
    let mut kernels = Vec::new();
    for (index, line) in module.source.text.lines().enumerate() {
        if line.trim() == "#include \"common.cuh\"" {
            let next = index + 2;
            let _ = write!(text, "#line 1 \"common.cuh\"\n{}\n#line {next} \"{name}\"\n", COMMON.text);
            continue;
        }
        if let Some(declared) = line.trim().strip_prefix("PP_KERNEL ") {
            kernels.extend(declared.split('(').next());
        }
        text.push_str(line);
        text.push('\n');
    }
    text.push_str("}\nconst pp_emu::Entry pp_emu_table[] = {\n");
    for kernel in kernels {
        let _ = writeln!(text, "{{\"{kernel}\", pp_emu::Caller<{kernel}>::call, pp_emu::Caller<{kernel}>::letters}},");
    }
    text.push_str("{nullptr, nullptr, nullptr}};\n");
    text
}
