"""The page at / in a real browser, with a microphone that plays a file."""

import subprocess

import imageio_ffmpeg
import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.report.test_browser import BROWSER, DRIVER

pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER),
    reason="no chromium and chromedriver: ops/setup dev installs them where it may use apt-get",
)
TEXT = "play this sorry your music is not right please try again"


@pytest.fixture(scope="module")
def wav(tmp_path_factory):
    path = tmp_path_factory.mktemp("microphone") / "bella.wav"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", "samples/bella.opus"]
    subprocess.run([*command, "-ac", "1", "-ar", "48000", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def driver(wav):
    options = ChromeOptions()
    options.binary_location = BROWSER
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={wav}%noloop",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options=options, service=ChromeService(DRIVER))
    yield chrome
    chrome.quit()


@pytest.fixture
def page(driver, server):
    driver.get(f"http://localhost:{server.port}/")
    yield driver
    assert [line for line in driver.get_log("browser") if line["level"] == "SEVERE"] == []


def text_of(page, id):
    return page.find_element(By.ID, id).text


def wait_for(page, condition, timeout_s=60):
    WebDriverWait(page, timeout_s).until(condition)


def test_a_file_shows_its_words_coloured_by_confidence(page, wav):
    page.find_element(By.ID, "file").send_keys(str(wav))
    wait_for(page, lambda p: text_of(p, "status") == "Done.")
    assert text_of(page, "words") == TEXT
    classes = [w.get_attribute("class") for w in page.find_elements(By.CSS_SELECTOR, "#words span")]
    assert len(classes) == 11
    assert set(classes) == {"sure", "doubtful"}
    assert text_of(page, "latency").endswith("ms")


def test_a_microphone_shows_words_while_it_listens(page):
    page.find_element(By.ID, "microphone").click()
    wait_for(page, lambda p: text_of(p, "status") == "Listening.")
    wait_for(page, lambda p: "music" in text_of(p, "words"))
    assert text_of(page, "status") == "Listening."
    page.find_element(By.ID, "stop").click()
    wait_for(page, lambda p: text_of(p, "status") == "Done.")


def test_a_wrong_key_is_reported(driver, server):
    with server.also(keys=("right",)) as keyed:
        driver.get(f"http://localhost:{keyed.port}/")
        driver.find_element(By.ID, "key").send_keys("wrong")
        driver.find_element(By.ID, "microphone").click()
        wait_for(driver, lambda p: "key" in text_of(p, "status"))
        assert driver.find_element(By.ID, "status").get_attribute("class") == "error"
        driver.get_log("browser")
