//! Telling: a command of the client's own is run, an address of the client's own is posted to.
//!
//! Both are the client's secrets, like the job's title, so an answer says why telling failed and not whom it failed to reach. The command
//! gets no shell, no terminal and little environment; what it prints goes to the operator's log.

use std::{
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, User, geteuid},
};
use safelight_policies::id::JobId;
use serde::{Serialize, Serializer};

use super::protocol::NotifiedReport;
use crate::{
    failure::Failure,
    jobs::{self, Notify},
    opened::OpenedJob,
    state::State,
};

/// How long a command may take.
const COMMAND_MAX: Duration = Duration::from_secs(60);

/// How long an address may take to answer.
const POST_MAX: Duration = Duration::from_secs(10);

/// Where commands are looked for.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What is posted.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(serialize_with = "as_text")]
    job: JobId,
    title: &'a str,
    state: &'a str,
    at: u64,
}

fn as_text<S: Serializer>(job: &JobId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(job)
}

/// Who is told.
#[derive(Debug, Clone, Copy)]
enum Way {
    Command,
    Url,
}

/// Tells whom the job's author wants told. Whom it told is written down, so who is asked to tell again has only those told that were not.
pub(super) fn tell(
    state: &State,
    job: JobId,
    word: &str,
    at: u64,
) -> Result<NotifiedReport, Failure> {
    let homeward = OpenedJob::open(state, job)?.homeward(state)?;
    let Notify { command, url } = &homeward.notify;
    let told = Told {
        job,
        title: &homeward.title,
        state: word,
        at,
    };
    let command = || run(state, command, &told, COMMAND_MAX);
    let url = || {
        url.as_deref()
            .map_or(Ok(()), |it| post(it, &told, POST_MAX))
    };
    Ok(NotifiedReport {
        command: once(state, &told, Way::Command, command)?,
        url: once(state, &told, Way::Url, url)?,
    })
}

/// Tells one, unless it was told; answers why it could not.
fn once(
    state: &State,
    told: &Told<'_>,
    way: Way,
    tell: impl FnOnce() -> Result<(), String>,
) -> Result<Option<String>, Failure> {
    let Told { job, at, .. } = told;
    let mark = match way {
        Way::Command => "command",
        Way::Url => "url",
    };
    let mark = state
        .job(*job)?
        .join(format!("told.{mark}.{at}.{}", told.state));
    if mark.exists() {
        return Ok(None);
    }
    match tell() {
        Ok(()) => jobs::write_private(&mark, b"").map(|()| None),
        Err(why) => Ok(Some(why)),
    }
}

/// Runs a command; an empty one is none. Answers why it failed.
fn run(state: &State, words: &[String], told: &Told<'_>, limit: Duration) -> Result<(), String> {
    let Some((program, arguments)) = words.split_first() else {
        return Ok(());
    };
    let log = || {
        let log = io::stderr().as_fd().try_clone_to_owned();
        log.map_or_else(|_| Stdio::null(), Stdio::from)
    };
    let home = User::from_uid(geteuid()).ok().flatten();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", home.map_or_else(|| "/".into(), |user| user.dir))
        .env("SAFELIGHT_JOB", told.job.to_string())
        .env("SAFELIGHT_JOB_STATE", told.state)
        // So that the command can ask Safelight about the job.
        .env("SAFELIGHT_STATE", state.root())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log())
        .stderr(log())
        .process_group(0);
    let child = command
        .spawn()
        .map_err(|error| format!("it cannot be started: {}", error.kind()))?;
    match wait(child, limit) {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(status.to_string()),
        Ok(None) => Err(format!("it took longer than {} s", limit.as_secs())),
        Err(error) => Err(error.kind().to_string()),
    }
}

/// Waits for a child; after the limit it is killed with all of its process group.
fn wait(mut child: Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let until = Instant::now() + limit;
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(20));
    }
    let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    child.wait().map(|_| None)
}

/// Posts to an address. Answers why it failed.
fn post(url: &str, told: &Told<'_>, limit: Duration) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(limit))
        // Whoever answers may not send the job's title elsewhere.
        .max_redirects(0)
        .proxy(None)
        .build()
        .into();
    match agent.post(url).send_json(told) {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("the answer was {}", answer.status().as_u16())),
        Err(ureq::Error::StatusCode(code)) => Err(format!("the answer was {code}")),
        Err(ureq::Error::Timeout(_)) => Err("no answer in time".to_owned()),
        Err(ureq::Error::Io(error)) => Err(error.kind().to_string()),
        Err(_) => Err("it cannot be reached".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    fn told() -> Told<'static> {
        Told {
            job: JobId::from_random([3; 10]),
            title: "a \"title\"",
            state: "delivered",
            at: 1_700_000_000,
        }
    }

    fn shell(script: &str, limit: Duration) -> Result<(), String> {
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(Some(directory.path())).unwrap();
        let words = ["sh", "-c", script].map(str::to_owned);
        run(&state, &words, &told(), limit)
    }

    #[test]
    fn a_command_gets_the_job_and_little_else() {
        let out = tempfile::NamedTempFile::new().unwrap();
        let script = format!("env > {}; cat", out.path().display());
        shell(&script, COMMAND_MAX).unwrap();
        let env = std::fs::read_to_string(out.path()).unwrap();
        let mut names: Vec<_> = env
            .lines()
            .filter_map(|line| line.split_once('=').map(|(name, _)| name))
            // What the shell sets by itself.
            .filter(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name))
            .collect();
        names.sort_unstable();
        let all = [
            "HOME",
            "PATH",
            "SAFELIGHT_JOB",
            "SAFELIGHT_JOB_STATE",
            "SAFELIGHT_STATE",
        ];
        assert_eq!(names, all);
        assert!(env.contains(&format!("SAFELIGHT_JOB={}\n", told().job)));
        assert!(env.contains("SAFELIGHT_JOB_STATE=delivered\n"));
    }

    #[test]
    fn a_command_that_fails_says_how_and_not_what() {
        assert_eq!(
            shell("exit 3", COMMAND_MAX),
            Err("exit status: 3".to_owned())
        );
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(Some(directory.path())).unwrap();
        let missing = run(
            &state,
            &["/nowhere/secret".to_owned()],
            &told(),
            COMMAND_MAX,
        );
        assert_eq!(
            missing,
            Err("it cannot be started: entity not found".to_owned())
        );
        assert_eq!(run(&state, &[], &told(), COMMAND_MAX), Ok(()));
    }

    #[test]
    fn a_command_that_stays_is_ended_with_all_that_it_started() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = format!(
            "(sleep 3; echo late > {}) & sleep 60",
            file.path().display()
        );
        let begun = Instant::now();
        let ended = shell(&script, Duration::from_millis(300));
        assert_eq!(ended, Err("it took longer than 0 s".to_owned()));
        assert!(begun.elapsed() < Duration::from_secs(3));
        thread::sleep(Duration::from_secs(4));
        assert_eq!(std::fs::read(file.path()).unwrap(), b"");
    }

    /// Answers one request with a status line and says what came.
    fn serve(status: &'static str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!(
            "http://{}/hook?token=secret",
            listener.local_addr().unwrap()
        );
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request = request(&mut stream);
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nlocation: /other\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            request
        });
        (url, served)
    }

    fn request(stream: &mut TcpStream) -> String {
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        // The body is the one thing in braces.
        while !request.ends_with(b"}") {
            let read = stream.read(&mut buffer).unwrap();
            request.extend_from_slice(&buffer[..read]);
        }
        String::from_utf8(request).unwrap()
    }

    #[test]
    fn an_address_gets_the_job_as_json() {
        let (url, served) = serve("204 No Content");
        post(&url, &told(), POST_MAX).unwrap();
        let request = served.join().unwrap();
        assert!(
            request.starts_with("POST /hook?token=secret HTTP/1.1\r\n"),
            "{request}"
        );
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "job": told().job.to_string(), "title": "a \"title\"", "state": "delivered", "at": 1_700_000_000
            })
        );
    }

    #[test]
    fn an_address_that_fails_says_how_and_not_where() {
        for (status, why) in [
            ("500 Oh", "the answer was 500"),
            ("404 No", "the answer was 404"),
            ("302 Elsewhere", "the answer was 302"),
        ] {
            let (url, served) = serve(status);
            assert_eq!(post(&url, &told(), POST_MAX), Err(why.to_owned()));
            served.join().unwrap();
        }
        // Nobody listens any more, nobody answers, and nothing is there.
        let (url, served) = serve("200 OK");
        post(&url, &told(), POST_MAX).unwrap();
        served.join().unwrap();
        assert_eq!(
            post(&url, &told(), POST_MAX),
            Err("connection refused".to_owned())
        );
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/secret", silent.local_addr().unwrap());
        let late = post(&url, &told(), Duration::from_millis(300));
        assert_eq!(late, Err("no answer in time".to_owned()));
        let nowhere = post("https://secret.invalid/", &told(), POST_MAX);
        assert!(!nowhere.unwrap_err().contains("secret"));
    }
}
