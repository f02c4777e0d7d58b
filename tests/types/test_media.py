"""Images, audio and files from files and from bytes: the type that the first bytes show, and what is refused."""

from __future__ import annotations

import base64

import pytest

from chatstream import ConfigError, InputAudio, InputFile, InputImage, Message
from chatstream._encode.body import request_body

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
WAV = b"RIFF\x24\0\0\0WAVEfmt "
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
IMAGES = [
    (PNG, "image/png"),
    (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
    (b"GIF87a\1\0", "image/gif"),
    (b"GIF89a\1\0", "image/gif"),
    (b"RIFF\n\0\0\0WEBPVP8 ", "image/webp"),
    (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0", "image/bmp"),
    (b"II*\0\x08\0\0\0", "image/tiff"),
    (b"MM\0*\0\0\0\x08", "image/tiff"),
    (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image/heic"),
    (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "image/heic"),
    (b"\n\n\n\x18ftypavif\0\0\0\0", "image/avif"),
]
AUDIO = [
    (WAV, "wav"),
    (b"ID3\4\0\0\0", "mp3"),
    (b"\xff\xfb\x90\x64", "mp3"),
    (b"\xff\xf3\x40\xc4", "mp3"),
    (b"OggS\0\2", "ogg"),
    (b"fLaC\0\0\0\x22", "flac"),
    (b"\0\0\0\x20ftypM4A \0\0\2\0", "m4a"),
    (b"\0\0\0\x18ftypmp42\0\0\0\0", "m4a"),
    (b"\xff\xf1\x50\x80", "aac"),
    (b"\x1aE\xdf\xa3\x9f", "webm"),
]
FILES = [
    (PDF, "application/pdf"),
    (b"\xef\xbb\xbf%PDF-1.4", "application/pdf"),
    (b"name,age\nB\xc3\xb6,3\n", "text/plain"),
    (PNG, "image/png"),
]


def url(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(("data", "media_type"), IMAGES)
def test_the_type_of_an_image_is_found_by_its_first_bytes_whatever_its_file_is_called(tmp_path, data, media_type):
    path = tmp_path / "picture.txt"
    path.write_bytes(data)
    image = InputImage(url(data, media_type), "low")
    assert InputImage.from_file(path, detail="low") == image
    assert InputImage.from_bytes(data, detail="low") == image
    assert InputImage.from_bytes(memoryview(bytearray(data))) == InputImage(image.image_url)


@pytest.mark.parametrize(("data", "format"), AUDIO)
def test_the_format_of_audio_is_found_by_its_first_bytes(tmp_path, data, format):
    path = tmp_path / "sound"
    path.write_bytes(data)
    audio = InputAudio(base64.b64encode(data).decode(), format)
    assert InputAudio.from_file(str(path)) == InputAudio.from_bytes(data) == audio


@pytest.mark.parametrize(("data", "media_type"), FILES)
def test_a_file_keeps_its_name_and_its_type_is_found_by_its_first_bytes(tmp_path, data, media_type):
    path = tmp_path / "report.bin"
    path.write_bytes(data)
    assert InputFile.from_file(path) == InputFile(url(data, media_type), filename="report.bin")
    assert InputFile.from_file(path, filename="a.b") == InputFile(url(data, media_type), filename="a.b")
    assert InputFile.from_bytes(data, filename="c") == InputFile(url(data, media_type), filename="c")
    assert InputFile.from_bytes(data).filename is None


def test_the_caller_may_name_a_type_that_is_not_known(tmp_path):
    (tmp_path / "x").write_bytes(b"\0?")
    assert InputImage.from_bytes(b"\0?", "image/x-icon").image_url == "data:image/x-icon;base64,AD8="
    assert InputImage.from_file(tmp_path / "x", media_type="image/jxl").image_url == "data:image/jxl;base64,AD8="
    assert InputFile.from_bytes(b"\0?", "application/zip").file_data == "data:application/zip;base64,AD8="
    formats = ["audio/x-wav", "audio/mpeg", "audio/mp4", "audio/x-m4a", "audio/L16", "audio/vnd.wave"]
    assert [InputAudio.from_bytes(b"\0?", each).format for each in formats] == [
        *("wav", "mp3", "m4a", "m4a", "l16", "wav")
    ]


def test_a_part_from_a_file_is_sent_like_any_other(tmp_path):
    (tmp_path / "cat.png").write_bytes(PNG)
    message = Message("user", ["What is it?", InputImage.from_file(tmp_path / "cat.png", detail="high")])
    sent = request_body([message], model="m", fields={})["messages"][0]["content"][1]
    assert sent == {"type": "image_url", "image_url": {"url": url(PNG, "image/png"), "detail": "high"}}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InputImage.from_bytes(b""), "^the data is empty$"),
        (lambda: InputImage.from_bytes(b"", "image/png"), "the data is empty"),
        (lambda: InputImage.from_bytes("iVBO"), "from_bytes needs bytes, not str"),
        (
            lambda: InputImage.from_bytes(b"\0\1\2\3"),
            '^the type of the data can\'t be detected from its first bytes: pass media_type="image/…"',
        ),
        (
            lambda: InputAudio.from_bytes(b"\xff\xfe\0a"),
            '^the type of the data can\'t be detected from its first bytes: pass media_type="audio/…"',
        ),
        (
            lambda: InputFile.from_bytes(b"PK\3\4\0"),
            '^the type of the data can\'t be detected from its first bytes: pass media_type="…/…"',
        ),
        (lambda: InputFile.from_bytes(b" \n"), "^the type of the data can't be detected from its first bytes"),
        (lambda: InputFile.from_bytes(b"\xff\xfeh\0"), "^the type of the data can't be detected from its first bytes"),
        (lambda: InputFile.from_bytes(b"gr\xfcn"), "^the type of the data can't be detected from its first bytes"),
        (lambda: InputImage.from_bytes(PDF), "the data is of the type 'application/pdf', but needs a media type that"),
        (lambda: InputImage.from_bytes(b"<svg/>"), "is of the type 'text/plain', but needs a .* begins with image/"),
        (lambda: InputAudio.from_bytes(PNG), "is of the type 'image/png', but needs a .* begins with audio/"),
        (lambda: InputImage.from_bytes(PNG, "png"), "is of the type 'png', but needs"),
        (lambda: InputImage.from_bytes(PNG, "image/png;base64,"), "is of the type 'image/png;base64,', but needs"),
        (lambda: InputFile.from_bytes(PDF, "pdf"), "is of the type 'pdf', but needs a media type such as"),
        (lambda: InputFile.from_bytes(PDF, 3), "is of the type 3, but needs"),
    ],
)
def test_bytes_that_no_server_takes_are_refused_with_what_to_do(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("kind", [InputImage, InputAudio, InputFile])
def test_a_file_that_cannot_be_read_or_has_no_known_type_is_refused_with_its_name(tmp_path, kind):
    (tmp_path / "empty.png").touch()
    (tmp_path / "odd.png").write_bytes(b"\0\1\2\3")
    with pytest.raises(ConfigError, match=r"^empty\.png is empty$"):
        kind.from_file(tmp_path / "empty.png")
    with pytest.raises(ConfigError, match=r"^the type of odd\.png can't be detected"):
        kind.from_file(tmp_path / "odd.png")
    with pytest.raises(ConfigError, match=r"no\.png can't be read \(No such file or directory\)$"):
        kind.from_file(tmp_path / "no.png")
    with pytest.raises(ConfigError, match=r"can't be read \(Is a directory\)"):
        kind.from_file(tmp_path)
    with pytest.raises(ConfigError, match=r"can't be read \(embedded null byte\)"):
        kind.from_file("a\0b")
    with pytest.raises(
        ConfigError,
        match=r"^https://e\.test/a\.png can't be read .*: for a URL, call the class itself, as in InputImage\(url\)$",
    ):
        kind.from_file("https://e.test/a.png")
    for wrong, name in ((3, "int"), (PNG, "bytes"), (None, "NoneType")):
        with pytest.raises(ConfigError, match=rf"^from_file needs a path, not {name}: use from_bytes"):
            kind.from_file(wrong)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InputImage("cat.png"), r"InputImage.image_url is 'cat.png', which is neither a URL nor a data: URL"),
        (lambda: InputImage("C:\\cat.png"), r"use InputImage.from_file\(path\) or InputImage.from_bytes\(data\)"),
        (lambda: InputImage("/tmp/cat.png"), "InputImage.from_file"),
        (lambda: InputImage("~/cat.png"), "InputImage.from_file"),
        (lambda: InputImage(""), "InputImage.from_file"),
        (lambda: InputImage("iVBORw0KGgo" * 9), r"'iVBORw0KGgoiVBO\w+'…, which is neither .* InputImage.from_bytes"),
        (lambda: InputAudio("talk.wav", "wav"), r"neither base64 nor a URL: use InputAudio.from_file\(path\)"),
        (lambda: InputAudio("", "wav"), "InputAudio.from_file"),
        (lambda: InputFile("report.pdf"), r"neither a data: URL nor base64: use InputFile.from_file\(path\)"),
        (lambda: InputFile(""), "InputFile.from_file"),
        (lambda: Message("user", [{"type": "input_image", "image_url": "cat.png"}]), "InputImage.from_file"),
    ],
)
def test_a_path_in_the_place_of_a_url_is_refused_with_the_function_to_use(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("given", ["HTTPS://e.test/a", "data:,", "gs://bucket/a.png", "file:///a.png"])
def test_every_kind_of_url_is_taken(given):
    assert InputImage(given).image_url == InputAudio(given, "wav").data == InputFile(given).file_data == given


def test_base64_with_and_without_line_ends_is_taken_as_audio_and_as_a_file():
    for given in (base64.b64encode(WAV * 20).decode(), base64.encodebytes(WAV * 20).decode()):
        assert InputAudio(given, "wav").data == InputFile(given).file_data == given


def test_the_name_of_a_file_has_no_folders_whichever_slash_separates_them(tmp_path):
    path = f"{tmp_path}/a\\b.pdf"
    with open(path, "wb") as file:
        file.write(PDF)
    assert InputFile.from_file(path).filename == "b.pdf"
