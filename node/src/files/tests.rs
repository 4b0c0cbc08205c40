use super::*;
use bytes::BytesMut;
use futures_util::{TryStreamExt as _, stream};
use sealpost_node_core::transfer::PartSet;
use sealpost_proto::BlobSize;
use std::{convert::Infallible, sync::Arc};

const TEXT: &[u8] = b"a file of a few bytes";
const SOME: FileId = FileId::from_bytes([9; 16]);

async fn files() -> (tempfile::TempDir, Files) {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::open(folder.path().join("files")).await.unwrap();
    (folder, files)
}

fn left(files: &Files) -> usize {
    std::fs::read_dir(&files.folder).unwrap().count()
}

fn new_parts() -> Arc<SealedParts> {
    Arc::new(SealedParts::of_new(
        FileId::from_bytes(sealpost_service::random_array()),
        Arc::default(),
        None,
    ))
}

async fn stage(files: &Files, pieces: &[&[u8]], announced: u64) -> Result<Staged, StageError> {
    let pieces: Vec<_> = pieces
        .iter()
        .map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece)))
        .collect();
    files
        .stage(stream::iter(pieces), announced, new_parts())
        .await
}

async fn read(files: &Files, file: FileId, staged: &Staged) -> io::Result<Vec<u8>> {
    let pieces = files
        .read_plaintext(file, &staged.file_key, &staged.sealed)
        .await?;
    Ok(pieces.try_collect::<Vec<_>>().await?.concat())
}

/// A file of five parts, sealed, with its parts as they travel.
async fn five_parts() -> (Vec<u8>, Staged, Vec<BytesMut>) {
    let (_folder, files) = files().await;
    let text: Vec<u8> = (1..=251).cycle().take(9_000_000).collect();
    let staged = stage(&files, &text.chunks(100_000).collect::<Vec<_>>(), 9_000_000)
        .await
        .unwrap();
    let size = BlobSize::parse(staged.sealed.ct_len, limits::BLOB_BYTES_MAX).unwrap();
    let mut parts = Vec::new();
    for number in 0..size.parts() {
        let range = size.part_range(number).unwrap();
        parts.push(BytesMut::from(
            &*files.read_range(staged.file, range).await.unwrap(),
        ));
    }
    assert_eq!((parts.len(), staged.part_digests.len()), (5, 5));
    (text, staged, parts)
}

async fn fetch(files: &Files, staged: &Staged) -> Arc<Fetching> {
    Arc::new(
        files
            .fetch(SOME, &staged.file_key, &staged.sealed)
            .await
            .unwrap(),
    )
}

async fn put(
    fetching: &Arc<Fetching>,
    parts: &[BytesMut],
    numbers: &[usize],
) -> Result<(), FetchError> {
    for number in numbers {
        let mut part = Arc::clone(fetching).part(u32::try_from(*number).unwrap())?;
        for piece in parts[*number].chunks(300_000) {
            part.write(Bytes::copy_from_slice(piece)).await?;
        }
        part.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_file_is_sealed_on_disk_and_reads_as_it_was() {
    let (_folder, files) = files().await;
    let staged = stage(
        &files,
        &[b"a file of ", b"", b"a few bytes"],
        TEXT.len() as u64,
    )
    .await
    .unwrap();
    assert_eq!(
        (staged.first_bytes.as_slice(), staged.sealed.pt_len),
        (TEXT, TEXT.len() as u64)
    );
    assert_eq!(read(&files, staged.file, &staged).await.unwrap(), TEXT);
    let on_disk = std::fs::read(files.path(staged.file)).unwrap();
    assert!(!on_disk.windows(6).any(|window| window == b"a file"));
}

#[tokio::test]
async fn as_many_parts_as_there_is_room_for_are_had_from_memory_and_the_sealing_waits_for_nobody() {
    let (_folder, files) = files().await;
    let room = PartRoom::default();
    let text: &'static [u8] = (1..=251)
        .cycle()
        .take(9_000_000)
        .collect::<Vec<u8>>()
        .leak();
    for is_given_up in [true, false] {
        let file = FileId::from_bytes(sealpost_service::random_array());
        let parts = Arc::new(SealedParts::of_new(
            file,
            Arc::default(),
            Some(room.clone()),
        ));
        let pieces = stream::iter(
            text.chunks(100_000)
                .map(|piece| Ok::<_, Infallible>(Bytes::from_static(piece))),
        );
        let staged = files
            .stage(pieces, 9_000_000, Arc::clone(&parts))
            .await
            .unwrap();
        assert_eq!(
            read(&files, file, &staged).await.unwrap(),
            text,
            "all of it is on the disk too"
        );
        if is_given_up {
            parts.forget();
        }
        let size = BlobSize::parse(staged.sealed.ct_len, limits::BLOB_BYTES_MAX).unwrap();
        for number in 0..size.parts() {
            let on_disk = files
                .read_range(file, size.part_range(number).unwrap())
                .await
                .unwrap();
            let is_there = !is_given_up && number < limits::PARTS_IN_FLIGHT_MAX;
            assert_eq!(
                parts.take(number).map(|part| part.bytes),
                is_there.then_some(on_disk),
                "{number}"
            );
        }
    }
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let (_folder, files) = files().await;
    let staged = stage(&files, &[], 0).await.unwrap();
    assert_eq!((staged.sealed.pt_len, staged.part_digests.len()), (0, 1));
    assert_eq!(read(&files, staged.file, &staged).await.unwrap(), b"");
}

#[tokio::test]
async fn what_is_not_as_announced_leaves_nothing() {
    let (_folder, files) = files().await;
    for announced in [0, TEXT.len() as u64 - 1, TEXT.len() as u64 + 1] {
        let refused = stage(&files, &[TEXT], announced).await.err();
        assert!(
            matches!(refused, Some(StageError::Changed { .. })),
            "{announced}"
        );
        assert_eq!(left(&files), 0, "{announced}");
    }
    let refused = stage(&files, &[TEXT], limits::FILE_BYTES_MAX + 1)
        .await
        .err();
    assert!(matches!(
        refused,
        Some(StageError::TooLarge {
            limit_bytes: limits::FILE_BYTES_MAX
        })
    ));
    let cut = stream::iter([Ok(Bytes::from_static(TEXT)), Err(io::Error::other("gone"))]);
    assert!(matches!(
        files.stage(cut, 100, new_parts()).await,
        Err(StageError::CutOff)
    ));
    assert_eq!(left(&files), 0);
}

#[tokio::test]
async fn parts_come_in_any_order_and_the_file_is_handed_out_when_all_checks_have_held() {
    let (text, staged, parts) = five_parts().await;
    let (_folder, files) = files().await;
    let fetching = fetch(&files, &staged).await;
    assert!(fetching.there().is_empty());
    put(&fetching, &parts, &[2, 0, 1, 4]).await.unwrap();
    assert_eq!(fetching.there(), PartSet::before(3));
    assert!(
        matches!(
            Arc::clone(&fetching).finish().await,
            Err(FetchError::NotDescribed)
        ),
        "a part is missing"
    );

    let fetching = fetch(&files, &staged).await;
    put(&fetching, &parts, &[4, 3, 2, 1, 0]).await.unwrap();
    assert!(
        read(&files, SOME, &staged).await.is_err(),
        "not before the end"
    );
    fetching.finish().await.unwrap();
    assert_eq!(
        (read(&files, SOME, &staged).await.unwrap(), left(&files)),
        (text, 1)
    );
}

#[tokio::test]
async fn what_a_run_before_wrote_is_opened_as_far_as_it_is_right() {
    let (text, staged, parts) = five_parts().await;
    let (_folder, files) = files().await;
    put(&fetch(&files, &staged).await, &parts, &[0, 1, 3])
        .await
        .unwrap();
    assert_eq!(
        fetch(&files, &staged).await.there(),
        PartSet::before(2),
        "part 2 is a hole"
    );
    let path = files.half_done(SOME, FETCHING);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all_at(b"torn", 3_000_000)
        .unwrap();
    let fetching = fetch(&files, &staged).await;
    assert_eq!(
        fetching.there(),
        PartSet::before(1),
        "a power cut took a piece of part 1"
    );
    put(&fetching, &parts, &[1, 2, 3, 4]).await.unwrap();
    fetching.finish().await.unwrap();
    // The process ended between the name and the row.
    let again = fetch(&files, &staged).await;
    assert_eq!(again.there(), PartSet::before(5));
    again.finish().await.unwrap();
    assert_eq!(
        (read(&files, SOME, &staged).await.unwrap(), left(&files)),
        (text, 1)
    );
}

#[tokio::test]
async fn wrong_parts_are_never_handed_out() {
    let (_, staged, parts) = five_parts().await;
    let (_, _, of_another) = five_parts().await;
    let altered = |number: usize, change: &dyn Fn(&mut BytesMut)| {
        let mut altered = parts.clone();
        change(&mut altered[number]);
        altered
    };
    let mut swapped = parts.clone();
    swapped.swap(1, 2);
    let mut mixed = parts.clone();
    mixed[3] = of_another[3].clone();
    let wrong = [
        ("a changed byte", altered(1, &|part| part[1_000_000] ^= 1)),
        ("a changed head", altered(0, &|part| part[0] ^= 1)),
        ("a changed commitment", altered(0, &|part| part[20] ^= 1)),
        ("a cut part", altered(2, &|part| part.truncate(2_000_000))),
        (
            "a longer part",
            altered(4, &|part| part.extend_from_slice(b"more")),
        ),
        ("swapped parts", swapped),
        ("a part of another blob", mixed),
        ("another blob", of_another),
    ];
    for (what, parts) in wrong {
        let (_folder, files) = files().await;
        let fetching = fetch(&files, &staged).await;
        let refused = put(&fetching, &parts, &[0, 1, 2, 3, 4]).await;
        assert!(
            matches!(
                refused,
                Err(FetchError::NotDescribed | FetchError::PartLength)
            ),
            "{what}"
        );
        assert!(
            matches!(fetching.finish().await, Err(FetchError::NotDescribed)),
            "{what}"
        );
        assert!(read(&files, SOME, &staged).await.is_err(), "{what}");
        assert_eq!(left(&files), 0, "{what}");
    }
}

#[tokio::test]
async fn what_an_interrupted_run_left_goes_and_what_rows_know_stays() {
    let (_folder, files) = files().await;
    let [known, unknown] = [
        stage(&files, &[TEXT], 21).await.unwrap(),
        stage(&files, &[TEXT], 21).await.unwrap(),
    ];
    let write = |name| std::fs::write(files.folder.join(name), b"something").unwrap();
    write(format!("{}.{FETCHING}", known.file));
    write(format!("{SOME}.{FETCHING}"));
    write(format!("{}.{STAGING}", known.file));
    write("strange".to_owned());
    files
        .remove_leftovers(|file| std::future::ready(Ok(file == known.file)))
        .await
        .unwrap();
    assert_eq!(left(&files), 2, "the blob and what is being fetched of it");
    assert_eq!(read(&files, known.file, &known).await.unwrap(), TEXT);
    assert!(read(&files, unknown.file, &unknown).await.is_err());
}
