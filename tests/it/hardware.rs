//! What the machine is and can do, seen from outside: `doctor` with programs that are good, wrong or hang.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use perfprof::commands::doctor::{Check, Examination, State, Surroundings, examine};

fn program(folder: &Path, name: &str, script: &str) {
    let file = folder.join(name);
    std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
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
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "the limit of 1.5 s and a generous allowance for a busy machine"
    );
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
