//! Our side: two sites that are served, and a job whose files go from one to the other.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use safelight_policies::id::JobId;
use safelight_scheduler::JobState;

use super::{
    Contender, Took,
    goods::{Goods, bytes_in, on_disk},
};
use crate::{
    failure::{Failure, Kind, OrFail},
    farm::{Farm, wait_until},
    run::Books,
    site::Status,
};

/// How often it is looked what has become of a job.
const LOOK: Duration = Duration::from_millis(5);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// A job that needs all of a directory. It is never rendered: no site has a node.
const TEMPLATE: &str = "specificationVersion: jobtemplate-2023-09
name: bench
parameterDefinitions:
- { name: Project, type: PATH, objectType: DIRECTORY, dataFlow: IN }
steps:
- name: look
  script:
    actions:
      onRun: { command: ls, args: [\"{{Param.Project}}\"] }
";

/// Two sites, and a bundle at home.
pub(super) struct Ours {
    at: PathBuf,
    farm: Farm,
    /// Counts the farms: each beginning has a new one.
    place: usize,
}

impl Ours {
    /// Two sites that know each other, and nothing between them.
    pub(super) fn new(at: PathBuf, goods: &Goods) -> Result<Self, Failure> {
        let bundle = at.join("bundle");
        fs::create_dir_all(&bundle).or_fail(Kind::Environment)?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        fs::set_permissions(&at, open).or_fail(Kind::Environment)?;
        let root = goods.root().display();
        let settings = format!("[[central]]\nhost = \"{root}\"\npath = \"/mnt/project\"\n");
        let values = format!("parameterValues:\n- {{ name: Project, value: \"{root}\" }}\n");
        for (name, text) in [
            ("template.yaml", TEMPLATE),
            ("parameter_values.yaml", &values),
            ("safelight-job.toml", &settings),
        ] {
            fs::write(bundle.join(name), text).or_fail(Kind::Environment)?;
        }
        Ok(Self {
            farm: farm(&at, 1)?,
            at,
            place: 1,
        })
    }

    /// Hands the job in.
    fn submit(&self) -> Result<JobId, Failure> {
        let bundle = self.at.join("bundle");
        let bundle = bundle
            .to_str()
            .ok_or_else(|| Failure::new(Kind::User, "the directory's name is not UTF-8"))?;
        let words = ["submit", bundle, "--where", "north", "--quiet"];
        self.farm
            .command(&words, "home")?
            .trim()
            .parse()
            .or_fail(Kind::Internal)
    }

    fn books(&self, site: &str) -> Result<Books, Failure> {
        Books::open(&self.farm.state(site)?)
    }

    /// Blobs' bytes that home wrote into its hot folder since it was started.
    fn sent(&self) -> Result<u64, Failure> {
        let status = Status::read(&self.farm.state("home")?)?.unwrap_or_default();
        Ok(status.links.get("north").map_or(0, |link| link.sent_bytes))
    }

    /// Waits until a job is on the medium, then until the other site has it; both from a moment on.
    fn shipped(&self, job: JobId, began: Instant) -> Result<(f64, f64), Failure> {
        let (home, north) = (self.books("home")?, self.books("north")?);
        let name = job.to_string();
        let mut out = None;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let state = home.wait(home.ledger().job(&name))?.state;
            if out.is_none() && matches!(state, JobState::Published | JobState::Accepted) {
                on_disk(&self.at)?;
                out = Some(began.elapsed().as_secs_f64());
            }
            if let Some(out) = out
                && north.wait(north.ledger().job(&name)).is_ok()
            {
                return Ok((out, began.elapsed().as_secs_f64()));
            }
            std::thread::sleep(LOOK);
        }
        Err(Failure::new(Kind::Environment, "the job never arrived"))
    }

    /// Waits until home knows that the job arrived, and nothing of it lies between the sites any more.
    fn settled(&self, job: JobId) -> Result<(), Failure> {
        let home = self.books("home")?;
        let blobs = self.farm.hot("home", "north").join("blobs");
        wait_until("the receipt", || {
            let entry = home.wait(home.ledger().job(&job.to_string()))?;
            Ok(entry.state == JobState::Accepted && bytes_in(&blobs)? == 0)
        })
    }
}

fn farm(at: &Path, place: usize) -> Result<Farm, Failure> {
    let directory = at.join(format!("farm-{place}"));
    fs::create_dir_all(&directory).or_fail(Kind::Environment)?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    fs::set_permissions(&directory, open).or_fail(Kind::Environment)?;
    let farm = Farm::start(directory, &[&[], &[]])?;
    // Home sends nothing before it has a prekey of the other site.
    let home = Books::open(&farm.state("home")?)?;
    let card = farm.path("north").join("card.toml");
    let north = crate::site::Card::read(&card)?.letters;
    wait_until("the prekeys", || {
        Ok(home.wait(home.ledger().prekeys_left(&north))? > 0)
    })?;
    Ok(farm)
}

impl Contender for Ours {
    fn bring(&mut self, _: &Goods) -> Result<Took, Failure> {
        let before = self.sent()?;
        let began = Instant::now();
        let job = self.submit()?;
        let (seconds, accepted) = self.shipped(job, began)?;
        self.settled(job)?;
        let mut bytes = 0;
        // The site says how it is every few seconds.
        let until = Instant::now() + Duration::from_secs(7);
        while bytes == 0 && Instant::now() < until {
            bytes = self.sent()?.saturating_sub(before);
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Took {
            seconds,
            bytes,
            accepted: Some(accepted),
        })
    }

    fn resume(&mut self, goods: &Goods) -> Result<Option<Took>, Failure> {
        self.place += 1;
        self.farm = farm(&self.at, self.place)?;
        self.farm.kill("home")?;
        let job = self.submit()?;
        on_disk(&self.at)?;
        self.farm.serve("home")?;
        let blobs = self.farm.hot("home", "north").join("blobs");
        let home = self.books("home")?;
        while bytes_in(&blobs)? < goods.bytes() / 2 {
            let state = home.wait(home.ledger().job(&job.to_string()))?.state;
            if matches!(state, JobState::Published | JobState::Accepted) {
                return Ok(None);
            }
            std::thread::sleep(LOOK * 20);
        }
        self.farm.kill("home")?;
        on_disk(&self.at)?;
        let there = bytes_in(&blobs)?;
        let began = Instant::now();
        self.farm.serve("home")?;
        let (seconds, accepted) = self.shipped(job, began)?;
        Ok(Some(Took {
            seconds,
            bytes: goods.bytes().saturating_sub(there),
            accepted: Some(accepted),
        }))
    }
}
