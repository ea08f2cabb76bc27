//! The attempts that another one goes on with, where no server has heard of them.

use std::fs;
use std::path::{Path, PathBuf};

use gradwatch_proto::v1;

use super::RunSpool;
use super::acked::Acked;
use super::folder::{Declaration, Place};

impl RunSpool {
    /// What has to be declared before an attempt, oldest first: a server refuses one that resumes an attempt it does not
    /// have, and that one's process may have ended before it reached the server. Its frames may follow at any time.
    pub(crate) fn undeclared_before(&self, request: &v1::OpenRunRequest) -> Vec<v1::OpenRunRequest> {
        let run = self.spool.dir.join(&request.run_id);
        let folders = folders(&run);
        let mut requests: Vec<v1::OpenRunRequest> = Vec::new();
        let mut next = resumed(request, &folders);
        while let Some(attempt_id) = next.take() {
            let is_it = |request: &v1::OpenRunRequest| attempt_of(request) == attempt_id;
            // No attempt goes on with itself, but files may say anything.
            if is_it(request) || requests.iter().any(is_it) {
                break;
            }
            let of_attempt = folders.iter().filter(|(place, _)| place.attempt_id.to_string() == attempt_id);
            let mut of_attempt: Vec<&(Place, PathBuf)> = of_attempt.collect();
            // Any of its shards declares an attempt; best this one's.
            of_attempt.sort_by_key(|(place, _)| place.shard != request.shard);
            // A server that acknowledged something of it has it.
            if of_attempt.iter().any(|(_, path)| Acked::read(path).is_some()) {
                break;
            }
            let declared = of_attempt.iter().find_map(|(_, path)| Declaration::read(path).ok());
            if let Some(Declaration { request, .. }) = declared {
                next = resumed(&request, &folders);
                requests.push(request);
            }
        }
        requests.reverse();
        requests
    }
}

fn folders(run: &Path) -> Vec<(Place, PathBuf)> {
    let entries = fs::read_dir(run).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| Some((Place::of(entry.file_name().to_str()?)?, entry.path()))).collect()
}

fn attempt_of(request: &v1::OpenRunRequest) -> &str {
    request.attempt.as_ref().map_or("", |attempt| &attempt.attempt_id)
}

/// The attempt that another goes on with. That may be whichever is the newest: here, the one that began last before it.
fn resumed(request: &v1::OpenRunRequest, folders: &[(Place, PathBuf)]) -> Option<String> {
    let attempt = request.attempt.as_ref()?;
    let resumed = &attempt.resumes.as_ref()?.attempt_id;
    if !resumed.is_empty() {
        return Some(resumed.clone());
    }
    let earlier = folders.iter().map(|(place, _)| place).filter(|place| place.started_at_us < attempt.started_at_us);
    earlier.max_by_key(|place| place.started_at_us).map(|place| place.attempt_id.to_string())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::folder::Folder;
    use super::super::{RunSpool, Spool};
    use super::*;

    fn request(run_id: Uuid, attempt_id: Uuid, started_at_us: i64, resumes: Option<&str>) -> v1::OpenRunRequest {
        let resumes = resumes.map(|attempt_id| v1::Resumes { attempt_id: attempt_id.to_owned(), step: 7 });
        let attempt = v1::Attempt { attempt_id: attempt_id.to_string(), started_at_us, resumes, unrelated: false };
        v1::OpenRunRequest { run_id: run_id.to_string(), attempt: Some(attempt), ..v1::OpenRunRequest::default() }
    }

    #[test]
    fn what_an_attempt_goes_on_with_is_declared_before_it_unless_a_server_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let spool = RunSpool::new(Spool::new(dir.path()), String::new());
        let (run_id, ids) = (Uuid::new_v4(), [1, 2, 3, 4].map(Uuid::from_u128));
        let texts = ids.map(|id| id.to_string());
        // 2 goes on with 1, 3 with whichever is the newest.
        let requests = [
            request(run_id, ids[0], 10, None),
            request(run_id, ids[1], 20, Some(&texts[0])),
            request(run_id, ids[2], 30, Some("")),
        ];
        let make = |request: &v1::OpenRunRequest| {
            let declaration = Declaration { request: request.clone(), server: String::new() };
            Folder::create(dir.path(), &declaration).unwrap().path().to_owned()
        };
        let folders = requests.each_ref().map(make);
        let before = |resumes: &str| spool.undeclared_before(&request(run_id, ids[3], 25, Some(resumes)));
        assert_eq!(before(&texts[2]), requests);
        assert_eq!(before(&texts[1]), requests[..2]);
        assert_eq!(before(""), requests[..2], "3 began later");
        assert_eq!(before(&Uuid::from_u128(9).to_string()), []);
        assert_eq!(spool.undeclared_before(&request(run_id, ids[3], 25, None)), []);
        assert_eq!(spool.undeclared_before(&request(Uuid::new_v4(), ids[3], 25, Some(&texts[2]))), []);

        Acked::default().write(&folders[0]).unwrap();
        assert_eq!(before(&texts[2]), requests[1..]);
        Acked::default().write(&folders[2]).unwrap();
        assert_eq!(before(&texts[2]), []);
    }

    #[test]
    fn attempts_that_go_on_with_each_other_end_the_search() {
        let dir = tempfile::tempdir().unwrap();
        let spool = RunSpool::new(Spool::new(dir.path()), String::new());
        let (run_id, [a, b]) = (Uuid::new_v4(), [Uuid::from_u128(1), Uuid::from_u128(2)]);
        for request in [request(run_id, a, 10, Some(&b.to_string())), request(run_id, b, 20, Some(&a.to_string()))] {
            Folder::create(dir.path(), &Declaration { request, server: String::new() }).unwrap();
        }
        let found = spool.undeclared_before(&request(run_id, Uuid::from_u128(3), 30, Some(&b.to_string())));
        assert_eq!(found.len(), 2);
    }
}
