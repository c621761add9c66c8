//! What the machine is and can do, seen from outside: `doctor` with programs that are good, wrong or hang.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use perfprof::commands::doctor::{Check, Examination, State, Surroundings, examine};
use perfprof::hardware::contention::{ContentionProbe, ContentionSample, ContentionThresholds, machine_state};
use perfprof::hardware::identify;
use perfprof::hardware::{DeviceRef, MeasurePolicy, PeakKind, PeakOverrides, resolve::ResolveRequest};

fn program(folder: &Path, name: &str, script: &str) {
    let file = folder.join(name);
    std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("the test's own folder takes files");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("the file was just written");
}

/// `doctor` with nothing on PATH but `folder` and the shell's own programs.
fn doctor(folder: &Path) -> Examination {
    let mut path = folder.as_os_str().to_owned();
    path.push(":/usr/bin:/bin");
    examine(&Surroundings {
        path,
        root: "/".into(),
        output_root: folder.join("runs"),
        limit: Duration::from_millis(1500),
    })
}

fn check<'a>(examination: &'a Examination, name: &str) -> &'a Check {
    examination.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no line for {name}"))
}

#[test]
fn good_profilers_are_found_with_their_versions() {
    let folder = tempfile::tempdir().unwrap();
    program(folder.path(), "nsys", "echo 'NVIDIA Nsight Systems version 2025.1.1.103-251135427971v0'");
    program(
        folder.path(),
        "ncu",
        "echo 'NVIDIA (R) Nsight Compute Command Line Profiler'; echo 'Version 2025.1.0.0 (build 35237751) (public-release)'",
    );
    let examination = doctor(folder.path());
    let nsys = check(&examination, "nsys");
    assert_eq!((nsys.state, nsys.advice.as_deref()), (State::Ok, None));
    assert!(nsys.detail.starts_with("2025.1.1.103-251135427971v0 at "), "{nsys:?}");
    assert!(check(&examination, "ncu").detail.starts_with("2025.1.0.0 at "));
}

#[test]
fn another_program_of_that_name_is_not_taken_for_a_profiler() {
    let folder = tempfile::tempdir().unwrap();
    program(folder.path(), "nsys", "echo 'nsys: network system tool, version 1.2'");
    program(folder.path(), "ncu", "echo 'npm-check-updates 16.3' >&2; exit 3");
    let examination = doctor(folder.path());
    for (name, said) in [("nsys", "network system tool"), ("ncu", "npm-check-updates")] {
        let line = check(&examination, name);
        assert_eq!(line.state, State::Limited, "{line:?}");
        assert!(line.detail.contains(said), "{line:?}");
        assert!(line.advice.as_deref().unwrap().contains("PATH"));
    }
}

#[test]
fn a_profiler_that_hangs_does_not_hang_doctor_and_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    // The wrapper waits for a child that holds its pipes: both must go.
    program(folder.path(), "nsys", &format!("sleep 600 & echo $! > {}; wait", pid_file.display()));
    let began = Instant::now();
    let examination = doctor(folder.path());
    assert!(began.elapsed() < Duration::from_mins(1), "the limit of 1.5 s and a generous allowance for a busy machine");
    let line = check(&examination, "nsys");
    assert_eq!(line.state, State::Limited);
    assert!(line.detail.contains("did not end within 1.5 s"), "{line:?}");
    let sleeper = std::fs::read_to_string(pid_file).unwrap();
    let stat = Path::new("/proc").join(sleeper.trim()).join("stat");
    // Killed processes vanish when their parent collects them; until then they are zombies.
    let gone = || std::fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z "));
    let deadline = Instant::now() + Duration::from_secs(20);
    while !gone() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(gone(), "the child of the wrapper outlived it");
}

#[test]
fn missing_profilers_come_with_advice_and_the_answer_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let examination = examine(&Surroundings {
        path: folder.path().as_os_str().to_owned(),
        root: "/".into(),
        output_root: folder.path().join("runs"),
        limit: Duration::from_secs(20),
    });
    for name in ["nsys", "ncu"] {
        let line = check(&examination, name);
        assert_eq!(line.state, State::Missing);
        assert!(line.advice.as_deref().unwrap().contains("install Nsight"), "{line:?}");
    }
    for name in
        ["processor", "memory", "usable", "load", "CPU energy", "NVML", "driver (libcuda)", "CUPTI", "GPU counters"]
    {
        check(&examination, name);
    }
    let json = serde_json::to_value(&examination).unwrap();
    assert_eq!((json["schema_version"].as_u64(), json["command"].as_str()), (Some(1), Some("doctor")));
    assert!(json["machine"]["cpu"]["logical_available"].as_u64().unwrap() >= 1);
    // Whatever is not there says what to do about it.
    for line in &examination.checks {
        let silent = ["GPU counters", "CPU sampling"].contains(&line.name.as_str());
        assert!(line.state != State::Missing || line.advice.is_some() || silent, "{line:?}");
    }
}

#[test]
fn a_file_in_the_place_of_the_output_root_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("runs"), "a file").unwrap();
    let line = check(&doctor(folder.path()), "run directories").clone();
    assert_eq!(line.state, State::Broken, "{line:?}");
    assert!(line.advice.unwrap().contains("--output-root"));
}

/// Not a test of its own: the process the next test stops.
#[test]
#[ignore = "the child of `a_stopped_process_knows_that_it_was`"]
fn child_that_is_stopped() {
    let probe = ContentionProbe::start();
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    println!("sample {}", serde_json::to_string(&probe.finish()).unwrap());
}

#[test]
fn a_stopped_process_knows_that_it_was() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hardware::child_that_is_stopped", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.ends_with("ready")));
    let pid = child.id() as libc::pid_t;
    // SAFETY: kill takes no pointer, and the child has not been waited for, so the number is still its own.
    unsafe { libc::kill(pid, libc::SIGSTOP) };
    std::thread::sleep(Duration::from_secs(2));
    // SAFETY: as above.
    unsafe { libc::kill(pid, libc::SIGCONT) };
    child.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    let json = lines.find_map(|line| Some(line.split_once("sample ")?.1.to_owned())).unwrap();
    child.wait().unwrap();
    let sample: ContentionSample = serde_json::from_str(&json).unwrap();
    assert!(sample.process_paused, "{sample:?}");
    assert!(sample.longest_gap_s > 1.5, "{sample:?}");
    let reasons = sample.disturbances(&ContentionThresholds::default());
    assert!(reasons.iter().any(|reason| reason.contains("stood still")), "{reasons:?}");
}

#[test]
fn a_busy_neighbour_is_seen_before_the_run() {
    let mut spinner = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let state = machine_state(Duration::from_millis(500));
    spinner.kill().unwrap();
    spinner.wait().unwrap();
    let cpus = f64::from(identify::cpu().logical_cpus.unwrap());
    // One of the CPUs is his, or somebody else's who took it from him.
    let share = state.other_cpu_share.unwrap();
    assert!(share > 0.4 / cpus, "{share} of {cpus} CPUs");
    let strict = ContentionThresholds { other_cpu_share: 0.2 / cpus, ..ContentionThresholds::default() };
    assert!(state.warnings(&strict).iter().any(|warning| warning.contains("busy")));
}

#[test]
fn this_processor_gets_ceilings_that_are_named_measured() {
    let machine = identify::machine();
    let request = ResolveRequest {
        machine: &machine,
        device: DeviceRef::Cpu,
        overrides: &PeakOverrides::default(),
        compute_dtype: perfprof::estimate::format::Format::F32,
        threads: 1,
        measure: MeasurePolicy::Within(Duration::from_millis(300)),
    };
    let resolved = perfprof::hardware::resolve(&request);
    let (flops, bandwidth) = (resolved.peak_flops_per_s, resolved.peak_bytes_per_s);
    assert_eq!((flops.kind, bandwidth.kind), (PeakKind::Measured, PeakKind::Measured));
    // One core of anything: 0.1 to 1000 GFLOP/s and 0.1 to 1000 GB/s.
    assert!((1e8..1e12).contains(&flops.value.unwrap()), "{flops:?}");
    assert!((1e8..1e12).contains(&bandwidth.value.unwrap()), "{bandwidth:?}");
    assert!(flops.source.contains("1 thread(s)") && flops.source.contains("best pass"), "{flops:?}");
    assert_eq!((resolved.device_id.as_str(), resolved.threads), ("cpu", Some(1)));
}
