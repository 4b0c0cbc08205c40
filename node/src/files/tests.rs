use super::*;
use bytes::BytesMut;
use futures_util::{TryStreamExt as _, stream};
use sealpost_node_core::transfer::PartSet;
use sealpost_proto::BlobSize;
use std::{convert::Infallible, sync::Arc};

const TEXT: &[u8] = b"a file of a few bytes";
const FILE: DiskFileId = DiskFileId::from_bytes([9; 16]);

async fn files() -> (tempfile::TempDir, Files) {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::open(directory.path().join("files")).unwrap();
    (directory, files)
}

fn count_files(files: &Files) -> usize {
    std::fs::read_dir(&files.directory).unwrap().count()
}

fn new_parts() -> Arc<SealedParts> {
    Arc::new(SealedParts::for_new_file(
        DiskFileId::from_bytes(sealpost_service::random_array()),
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

async fn read(files: &Files, file: DiskFileId, staged: &Staged) -> io::Result<Vec<u8>> {
    let pieces = files
        .read_plaintext(file, &staged.file_key, &staged.sealed)
        .await?;
    Ok(pieces.try_collect::<Vec<_>>().await?.concat())
}

/// Seals a file of five parts, and returns its plaintext and its sealed parts.
async fn five_parts() -> (Vec<u8>, Staged, Vec<BytesMut>) {
    let (_directory, files) = files().await;
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

async fn open_download(files: &Files, staged: &Staged) -> Arc<BlobDownload> {
    Arc::new(
        files
            .open_download(FILE, &staged.file_key, &staged.sealed)
            .await
            .unwrap(),
    )
}

async fn put(
    download: &Arc<BlobDownload>,
    parts: &[BytesMut],
    numbers: &[usize],
) -> Result<(), DownloadError> {
    for number in numbers {
        let mut part = Arc::clone(download).part_writer(u32::try_from(*number).unwrap())?;
        for piece in parts[*number].chunks(300_000) {
            part.write(Bytes::copy_from_slice(piece)).await?;
        }
        part.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn sealed_file_reads_back() {
    let (_directory, files) = files().await;
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
async fn parts_in_memory_are_bounded() {
    let (_directory, files) = files().await;
    let budget = PartMemoryBudget::default();
    let text: &'static [u8] = (1..=251)
        .cycle()
        .take(9_000_000)
        .collect::<Vec<u8>>()
        .leak();
    for is_released in [true, false] {
        let file = DiskFileId::from_bytes(sealpost_service::random_array());
        let parts = Arc::new(SealedParts::for_new_file(
            file,
            Arc::default(),
            Some(budget.clone()),
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
            "the whole file is on disk too"
        );
        if is_released {
            parts.release_memory();
        }
        let size = BlobSize::parse(staged.sealed.ct_len, limits::BLOB_BYTES_MAX).unwrap();
        for number in 0..size.parts() {
            let on_disk = files
                .read_range(file, size.part_range(number).unwrap())
                .await
                .unwrap();
            let is_in_memory = !is_released && number < limits::PARTS_IN_FLIGHT_MAX;
            assert_eq!(
                parts.take_from_memory(number).map(|part| part.bytes),
                is_in_memory.then_some(on_disk),
                "{number}"
            );
        }
    }
}

#[tokio::test]
async fn empty_file_can_be_staged() {
    let (_directory, files) = files().await;
    let staged = stage(&files, &[], 0).await.unwrap();
    assert_eq!((staged.sealed.pt_len, staged.part_digests.len()), (0, 1));
    assert_eq!(read(&files, staged.file, &staged).await.unwrap(), b"");
}

#[tokio::test]
async fn wrong_length_leaves_no_file() {
    let (_directory, files) = files().await;
    for announced in [0, TEXT.len() as u64 - 1, TEXT.len() as u64 + 1] {
        let refused = stage(&files, &[TEXT], announced).await.err();
        assert!(
            matches!(refused, Some(StageError::Changed { .. })),
            "{announced}"
        );
        assert_eq!(count_files(&files), 0, "{announced}");
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
    assert_eq!(count_files(&files), 0);
}

#[tokio::test]
async fn parts_may_arrive_in_any_order() {
    let (text, staged, parts) = five_parts().await;
    let (_directory, files) = files().await;
    let download = open_download(&files, &staged).await;
    assert!(download.present_parts().is_empty());
    put(&download, &parts, &[2, 0, 1, 4]).await.unwrap();
    assert_eq!(download.present_parts(), PartSet::before(3));
    assert!(
        matches!(
            Arc::clone(&download).finish().await,
            Err(DownloadError::NotDescribed)
        ),
        "a part is missing"
    );

    let download = open_download(&files, &staged).await;
    put(&download, &parts, &[4, 3, 2, 1, 0]).await.unwrap();
    assert!(
        read(&files, FILE, &staged).await.is_err(),
        "not before it is complete"
    );
    download.finish().await.unwrap();
    assert_eq!(
        (
            read(&files, FILE, &staged).await.unwrap(),
            count_files(&files)
        ),
        (text, 1)
    );
}

#[tokio::test]
async fn resumed_download_reuses_valid_parts() {
    let (text, staged, parts) = five_parts().await;
    let (_directory, files) = files().await;
    put(&open_download(&files, &staged).await, &parts, &[0, 1, 3])
        .await
        .unwrap();
    assert_eq!(
        open_download(&files, &staged).await.present_parts(),
        PartSet::before(2),
        "part 2 is a hole"
    );
    let path = files.partial_path(FILE, DOWNLOADING);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all_at(b"torn", 3_000_000)
        .unwrap();
    let download = open_download(&files, &staged).await;
    assert_eq!(
        download.present_parts(),
        PartSet::before(1),
        "part 1 is damaged"
    );
    put(&download, &parts, &[1, 2, 3, 4]).await.unwrap();
    download.finish().await.unwrap();
    // As after a crash between the rename and the update of the row.
    let again = open_download(&files, &staged).await;
    assert_eq!(again.present_parts(), PartSet::before(5));
    again.finish().await.unwrap();
    assert_eq!(
        (
            read(&files, FILE, &staged).await.unwrap(),
            count_files(&files)
        ),
        (text, 1)
    );
}

#[tokio::test]
async fn altered_parts_are_rejected() {
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
        let (_directory, files) = files().await;
        let download = open_download(&files, &staged).await;
        let refused = put(&download, &parts, &[0, 1, 2, 3, 4]).await;
        assert!(
            matches!(
                refused,
                Err(DownloadError::NotDescribed | DownloadError::PartLength)
            ),
            "{what}"
        );
        assert!(
            matches!(download.finish().await, Err(DownloadError::NotDescribed)),
            "{what}"
        );
        assert!(read(&files, FILE, &staged).await.is_err(), "{what}");
        assert_eq!(count_files(&files), 0, "{what}");
    }
}

#[tokio::test]
async fn leftovers_without_rows_are_removed() {
    let (_directory, files) = files().await;
    let [known, unknown] = [
        stage(&files, &[TEXT], 21).await.unwrap(),
        stage(&files, &[TEXT], 21).await.unwrap(),
    ];
    let write = |name| std::fs::write(files.directory.join(name), b"something").unwrap();
    write(format!("{}.{DOWNLOADING}", known.file));
    write(format!("{FILE}.{DOWNLOADING}"));
    write(format!("{}.{STAGING}", known.file));
    write("strange".to_owned());
    files
        .remove_leftovers(|file| std::future::ready(Ok(file == known.file)))
        .await
        .unwrap();
    assert_eq!(count_files(&files), 2, "the blob and its partial download");
    assert_eq!(read(&files, known.file, &known).await.unwrap(), TEXT);
    assert!(read(&files, unknown.file, &unknown).await.is_err());
}
