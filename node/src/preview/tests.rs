use super::*;
use ::png::{BitDepth, ColorType, Encoder};
use sealpost_proto::limits::PREVIEW_BYTES_MAX;
use std::io::Cursor;

/// Test image: left half red, right half blue, last row green.
fn pixel(x: u32, y: u32, width: u32, height: u32) -> [u8; 3] {
    if y == height - 1 {
        [0, 255, 0]
    } else if x < width / 2 {
        [255, 0, 0]
    } else {
        [0, 0, 255]
    }
}

fn pixels(width: u32, height: u32) -> Vec<u8> {
    (0..height)
        .flat_map(|y| (0..width).flat_map(move |x| pixel(x, y, width, height)))
        .collect()
}

fn png(width: u32, height: u32, color: ColorType, samples: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, width, height);
    encoder.set_color(color);
    encoder.set_depth(BitDepth::Eight);
    encoder
        .write_header()
        .unwrap()
        .write_image_data(samples)
        .unwrap();
    file
}

fn jpeg(width: u16, height: u16, is_progressive: bool, exif: Option<&[u8]>) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut file, 90);
    encoder.set_progressive(is_progressive);
    if let Some(exif) = exif {
        encoder.add_exif_metadata(exif).unwrap();
    }
    let samples = pixels(u32::from(width), u32::from(height));
    encoder
        .encode(&samples, width, height, jpeg_encoder::ColorType::Rgb)
        .unwrap();
    file
}

/// Decodes a preview to its width, height and pixels.
fn decode(preview: &[u8]) -> (u16, u16, Vec<u8>) {
    let mut decoder = jpeg_decoder::Decoder::new(preview);
    let pixels = decoder.decode().unwrap();
    let info = decoder.info().unwrap();
    (info.width, info.height, pixels)
}

/// Asserts that a pixel has approximately the expected colour.
#[track_caller]
fn assert_pixel(preview: &[u8], x: usize, y: usize, expected: [u8; 3]) {
    let (width, _, pixels) = decode(preview);
    let at = (y * usize::from(width) + x) * 3;
    let actual = &pixels[at..at + 3];
    assert!(
        actual
            .iter()
            .zip(expected)
            .all(|(actual, expected)| actual.abs_diff(expected) < 60),
        "{actual:?}"
    );
}

#[test]
fn preview_keeps_the_aspect_ratio() {
    let images = [
        (
            "image/png",
            png(1_024, 512, ColorType::Rgb, &pixels(1_024, 512)),
        ),
        ("image/jpeg", jpeg(1_024, 512, false, None)),
        ("image/jpeg", jpeg(1_024, 512, true, None)),
    ];
    for (content_type, image) in images {
        let preview = create(content_type, Cursor::new(image)).unwrap();
        let (width, height, _) = decode(&preview);
        assert_eq!(
            (width, height, super::content_type(&preview)),
            (256, 128, Some("image/jpeg"))
        );
        assert!(preview.len() <= PREVIEW_BYTES_MAX);
        assert_pixel(&preview, 20, 20, [255, 0, 0]);
        assert_pixel(&preview, 236, 20, [0, 0, 255]);
    }
}

#[test]
fn small_and_narrow_images_have_previews() {
    for (from, to) in [
        ((3, 2), (3, 2)),
        ((256, 256), (256, 256)),
        ((10_000, 3), (256, 1)),
        ((2, 3_000), (1, 256)),
    ] {
        let image = png(from.0, from.1, ColorType::Rgb, &pixels(from.0, from.1));
        let (width, height, _) = decode(&create("image/png", Cursor::new(image)).unwrap());
        assert_eq!((width, height), to, "{from:?}");
    }
}

#[test]
fn transparent_pixels_are_white() {
    let clear = png(64, 64, ColorType::Rgba, &[0, 0, 0, 0].repeat(64 * 64));
    assert_pixel(
        &create("image/png", Cursor::new(clear)).unwrap(),
        5,
        5,
        [255; 3],
    );
    let grey = png(
        64,
        64,
        ColorType::GrayscaleAlpha,
        &[128, 255].repeat(64 * 64),
    );
    assert_pixel(
        &create("image/png", Cursor::new(grey)).unwrap(),
        5,
        5,
        [128; 3],
    );
}

/// Builds an interlaced PNG, which the encoder does not support.
fn interlaced(width: u32, height: u32) -> Vec<u8> {
    let mut rows = Vec::new();
    for [from, first, step, lines] in [
        [0, 0, 8, 8],
        [4, 0, 8, 8],
        [0, 4, 4, 8],
        [2, 0, 4, 4],
        [0, 2, 2, 4],
        [1, 0, 2, 2],
        [0, 1, 1, 2],
    ] {
        for y in (first..height)
            .step_by(lines as usize)
            .filter(|_| from < width)
        {
            rows.push(0);
            rows.extend(
                (from..width)
                    .step_by(step as usize)
                    .flat_map(|x| pixel(x, y, width, height)),
            );
        }
    }
    // Reuse the header of a plain PNG and replace its data.
    let mut plain = png(width, height, ColorType::Rgb, &pixels(width, height));
    plain[28] = 1;
    let header_crc = crc32(&plain[12..29]);
    plain[29..33].copy_from_slice(&header_crc.to_be_bytes());
    plain.truncate(33);
    let deflated = zlib_stored(&rows);
    for (kind, body) in [(b"IDAT", deflated.as_slice()), (b"IEND", &[])] {
        plain.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        let chunk = [kind, body].concat();
        plain.extend(&chunk);
        plain.extend(crc32(&chunk).to_be_bytes());
    }
    plain
}

/// Wraps bytes in a zlib stream without compression (RFC 1950, RFC 1951 section 3.2.4).
fn zlib_stored(bytes: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let blocks = bytes.chunks(0xffff);
    let last = blocks.len() - 1;
    for (index, block) in blocks.enumerate() {
        let length = u16::try_from(block.len()).unwrap();
        stream.push(u8::from(index == last));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), &byte| {
        let low = (low + u32::from(byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    stream.extend(((high << 16) | low).to_be_bytes());
    stream
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn interlaced_image_equals_the_plain_one() {
    for (width, height) in [(600, 300), (5, 3), (1, 1), (2, 9)] {
        let plain = create(
            "image/png",
            Cursor::new(png(width, height, ColorType::Rgb, &pixels(width, height))),
        );
        assert_eq!(
            create("image/png", Cursor::new(interlaced(width, height))),
            plain,
            "{width} x {height}"
        );
        assert!(plain.is_some());
    }
}

/// Builds EXIF data with an orientation and a secret.
fn exif(orientation: u8, is_little_endian: bool) -> Vec<u8> {
    let mut tiff = if is_little_endian {
        b"II*\0".to_vec()
    } else {
        b"MM\0*".to_vec()
    };
    let mut number = |value: u32, width: usize| {
        let bytes = value.to_be_bytes()[4 - width..].to_vec();
        tiff.extend(if is_little_endian {
            bytes.into_iter().rev().collect()
        } else {
            bytes
        });
    };
    number(8, 4);
    number(2, 2);
    for (tag, kind, count, value) in [(0x010f, 2, 4, 0), (0x0112, 3, 1, u32::from(orientation))] {
        number(tag, 2);
        number(kind, 2);
        number(count, 4);
        number(value, 2);
        number(0, 2);
    }
    number(0, 4);
    tiff.extend(b"SECRET-PLACE");
    tiff
}

#[test]
fn preview_is_rotated_and_has_no_metadata() {
    let (red, blue) = ([255, 0, 0], [0, 0, 255]);
    // Where the red left half is after the rotation.
    for (orientation, size, red_at, blue_at) in [
        (1, (128, 64), (10, 30), (118, 30)),
        (2, (128, 64), (118, 30), (10, 30)),
        (3, (128, 64), (118, 30), (10, 30)),
        (4, (128, 64), (10, 30), (118, 30)),
        (5, (64, 128), (30, 10), (30, 118)),
        (6, (64, 128), (30, 10), (30, 118)),
        (7, (64, 128), (30, 118), (30, 10)),
        (8, (64, 128), (30, 118), (30, 10)),
        (9, (128, 64), (10, 30), (118, 30)),
    ] {
        for is_little_endian in [true, false] {
            let image = jpeg(128, 64, false, Some(&exif(orientation, is_little_endian)));
            assert!(image.windows(6).any(|window| window == b"SECRET"));
            let preview = create("image/jpeg", Cursor::new(image)).unwrap();
            let (width, height, _) = decode(&preview);
            assert_eq!((width, height), size, "{orientation}");
            assert_pixel(&preview, red_at.0, red_at.1, red);
            assert_pixel(&preview, blue_at.0, blue_at.1, blue);
            for secret in [b"SECRET".as_slice(), b"Exif"] {
                assert!(!preview.windows(secret.len()).any(|window| window == secret));
            }
        }
    }
}

#[test]
fn hostile_images_have_no_preview() {
    let mut huge = png(8, 8, ColorType::Rgb, &pixels(8, 8));
    huge[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let crc = crc32(&huge[12..29]);
    huge[29..33].copy_from_slice(&crc.to_be_bytes());
    let mut wide = jpeg(64, 64, false, None);
    let frame = wide.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    wide[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
    let mut progressive = jpeg(64, 64, true, None);
    let frame = progressive
        .windows(2)
        .position(|two| two == [0xff, 0xc2])
        .unwrap();
    progressive[frame + 5..frame + 9].copy_from_slice(&[0x20, 0, 0x20, 0]);
    let whole = png(300, 300, ColorType::Rgb, &pixels(300, 300));
    for (content_type, image) in [
        ("image/png", huge),
        ("image/png", whole[..whole.len() / 2].to_vec()),
        ("image/png", b"\x89PNG\r\n\x1a\n".to_vec()),
        ("image/png", Vec::new()),
        ("image/jpeg", wide),
        ("image/jpeg", progressive),
        ("image/jpeg", b"\xff\xd8\xff".to_vec()),
        ("image/gif", whole.clone()),
    ] {
        assert_eq!(
            create(content_type, Cursor::new(image)),
            None,
            "{content_type}"
        );
    }
}

#[test]
fn quality_falls_until_the_preview_fits() {
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    let image = png(
        256,
        256,
        ColorType::Rgb,
        &noise.take(256 * 256 * 3).collect::<Vec<_>>(),
    );
    let preview = create("image/png", Cursor::new(image)).unwrap();
    assert!(preview.len() <= PREVIEW_BYTES_MAX, "{}", preview.len());
}

#[test]
fn endless_image_hits_the_time_limit() {
    // JPEG permits any number of fill bytes before a marker.
    let endless = b"\xff\xd8".chain(io::repeat(0xff));
    let image = DeadlineReader {
        inner: endless,
        started_at: Instant::now(),
        time_limit: Duration::from_millis(20),
    };
    assert!(jpeg::decode_thumbnail(image).is_none());
}

#[tokio::test]
async fn interrupted_stream_has_no_preview() {
    let image = png(300, 300, ColorType::Rgb, &pixels(300, 300));
    let pieces = |end: io::Result<Bytes>| {
        let pieces: Vec<_> = image
            .chunks(100)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        futures_util::stream::iter(pieces.into_iter().take(2).chain([end]))
    };
    let broken = pieces(Err(io::ErrorKind::Other.into()));
    assert_eq!(
        create_from_stream("image/png".to_owned(), broken).await,
        None
    );
    let whole = pieces(Ok(Bytes::copy_from_slice(&image[200..])));
    assert!(
        create_from_stream("image/png".to_owned(), whole)
            .await
            .is_some()
    );
}

#[test]
fn content_type_follows_the_signature() {
    for (preview, content_type) in [
        (b"\xff\xd8\xff\xe0".as_slice(), Some("image/jpeg")),
        (b"\x89PNG\r\n\x1a\n...", Some("image/png")),
        (b"<svg onload='x'>", None),
        (b"GIF89a", None),
        (b"", None),
    ] {
        assert_eq!(super::content_type(preview), content_type);
    }
}
