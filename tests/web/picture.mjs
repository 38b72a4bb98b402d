// A picture of a page, taken once what is to be on it has been drawn: browser, URL, selector, width, height, file.
import { chromium } from 'playwright-core';

const [browserPath, url, drawn, width, height, path] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: browserPath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
});
try {
  const page = await browser.newPage({ viewport: { width: Number(width), height: Number(height) } });
  await page.goto(url, { waitUntil: 'domcontentloaded' });
  await page.locator(drawn).waitFor();
  await page.screenshot({ path });
} finally {
  await browser.close();
}
