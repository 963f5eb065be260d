// Opens pages and says what it saw: node test.mjs <chromium> <folder of pictures> <page.html>...
import { chromium } from "playwright-core";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";

const [program, pictures, ...pages] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
// A page may be taller than a browser can paint at once: pictures end where that does.
const tallest = 12000;
const picture = async (page, name, width) => {
  const height = Math.min(tallest, await page.evaluate(() => document.documentElement.scrollHeight));
  await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true, clip: { x: 0, y: 0, width, height } });
};
const views = [];

// What can be read off the page. It runs inside it.
const look = () => {
  const all = (what, root = document) => [...root.querySelectorAll(what)];
  const shown = (e) => e.checkVisibility();
  const problems = [];
  const say = (p) => problems.push(p);

  const over = document.documentElement.scrollWidth - window.innerWidth;
  if (over > 0) {
    const who = all("body *").filter((e) => shown(e) && e.getBoundingClientRect().right > window.innerWidth + 1 && !e.closest(".scroll"));
    say(`the page is ${over} pixels wider than the window: ${who.slice(0, 3).map((e) => e.outerHTML.slice(0, 120)).join(" | ")}`);
  }
  for (const e of all("body *")) {
    const text = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join(" ");
    if (text.length > 20 && shown(e) && !e.closest("svg") && getComputedStyle(e).display !== "inline" && e.getBoundingClientRect().width < 90 && e.getBoundingClientRect().height > 120) {
      say(`text stands in a column of ${e.getBoundingClientRect().width.toFixed(0)} pixels: ${text.slice(0, 60)}`);
    }
  }
  let level = 0;
  for (const h of all("h1, h2, h3, h4")) {
    const n = Number(h.tagName[1]);
    if (n > level + 1) say(`heading "${h.textContent}" jumps from level ${level} to ${n}`);
    level = n;
  }
  for (const [what, n] of [["body > header", 1], ["main", 1], ["body > footer", 1], ["h1", 1], ["nav[aria-label]", 1]]) {
    if (all(what).length !== n) say(`${all(what).length} of ${what}`);
  }
  for (const t of all("table")) if (!t.querySelector("caption")?.textContent.trim()) say(`a table has no caption: ${t.outerHTML.slice(0, 120)}`);
  for (const th of all("th")) if (!th.scope) say(`a heading of a table has no scope: ${th.outerHTML}`);
  for (const e of all("[aria-labelledby]")) if (!document.getElementById(e.getAttribute("aria-labelledby"))) say(`the label of ${e.id} is not there`);
  const ids = all("[id]").map((e) => e.id);
  if (new Set(ids).size !== ids.length) say("two elements have one id");
  for (const a of all('a[href^="#"]')) if (!document.getElementById(decodeURIComponent(a.getAttribute("href").slice(1)))) say(`a link leads nowhere: ${a.getAttribute("href")}`);

  // Colour is never the only signal: a tag has words, a series a name, and a pattern or a dash of its own.
  for (const t of all(".tag")) if (!/[a-z]{2}/i.test(t.textContent)) say(`a tag has no word: ${t.outerHTML}`);
  for (const f of all("figure")) {
    const names = all(".legend li", f).map((li) => li.textContent.trim());
    const drawn = all("svg.chart", f).filter(shown);
    if (names.length === 0) continue;
    if (drawn.length !== 1) say(`figure ${f.id} shows ${drawn.length} charts`);
    if (names.some((n) => !n) || new Set(names).size !== names.length) say(`figure ${f.id} has series without a name of their own: ${names}`);
    const looks = all(".legend li > svg", f).map((s) => s.querySelector("rect")?.getAttribute("fill") ?? getComputedStyle(s.querySelector("line")).strokeDasharray + s.querySelector("use").getAttribute("href"));
    if (new Set(looks).size !== looks.length) say(`two series of figure ${f.id} look alike but for their colour: ${looks}`);
    for (const text of drawn.flatMap((s) => all("text", s))) {
      const box = text.getBoundingClientRect(), frame = text.ownerSVGElement.getBoundingClientRect();
      if (box.height < 10) say(`text of figure ${f.id} is ${box.height.toFixed(1)} pixels high`);
      if (box.left < frame.left - 1 || box.right > frame.right + 1) say(`text of figure ${f.id} is cut off: ${text.textContent}`);
    }
  }

  // Contrast by WCAG 2: at least 4.5 to 1, of every text that is shown.
  const rgb = (c) => (c.match(/[\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const under = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  let contrast = Infinity;
  for (const e of all("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !shown(e)) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(rgb(e.namespaceURI.endsWith("svg") ? style.fill : style.color)), light(under(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    contrast = Math.min(contrast, ratio);
    if (ratio < 4.5) say(`contrast ${ratio.toFixed(2)} of "${e.textContent.trim().slice(0, 40)}"`);
  }
  return { problems, contrast, charts: all("svg.chart").filter(shown).length, findings: all("article").length, hostile: window.hostile ?? null };
};

// Every link and control that is shown, in their order; each is marked, to be known again.
const stops = () => [...document.querySelectorAll("a[href], summary, [tabindex]")].filter((e) => e.checkVisibility()).map((e, i) => (e.dataset.stop = String(i)));

// Tab from the top until it is back there.
const tabbed = async (page, most) => {
  const seen = [];
  for (let i = 0; i < most + 5; i++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => document.activeElement?.dataset?.stop ?? null);
    if (at === null) break;
    seen.push(at);
    if (seen.length > most) break;
  }
  return seen;
};

for (const file of pages) {
  for (const width of [1280, 390]) {
    for (const colorScheme of ["light", "dark"]) {
      const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme });
      const page = await context.newPage();
      const problems = [], url = pathToFileURL(file).href;
      page.on("console", (m) => problems.push(`console ${m.type()}: ${m.text()}`));
      page.on("pageerror", (e) => problems.push(`error: ${e.message}`));
      page.on("request", (r) => { if (r.url() !== url && !r.url().startsWith("data:")) problems.push(`it asked for ${r.url()}`); });
      await page.goto(url);
      const name = `${basename(file, ".html")}-${width}-${colorScheme}`;
      await picture(page, name, width);
      const want = await page.evaluate(stops);
      const got = await tabbed(page, want.length);
      if (JSON.stringify(got) !== JSON.stringify(want)) problems.push(`by keyboard one gets to ${got.length} of ${want.length}: ${got.join(" ")}`);
      const closed = await page.evaluate(look);

      // By keyboard alone everything that is folded away opens, and the page still fits.
      const folds = await page.locator("summary").count();
      for (let i = 0; i < folds; i++) {
        await page.locator("summary").nth(i).focus();
        await page.keyboard.press("Enter");
      }
      const open = await page.evaluate(() => document.querySelectorAll("details[open]").length);
      if (open !== folds) problems.push(`${open} of ${folds} opened by keyboard`);
      const opened = await page.evaluate(look);
      await picture(page, `${name}-open`, width);

      const first = await page.evaluate(() => document.querySelector("article")?.id ?? null);
      if (first) {
        await page.goto(`${url}#${first}`);
        const there = await page.evaluate((id) => {
          const e = document.getElementById(id), box = e.getBoundingClientRect();
          return e.matches(":target") && box.top >= -1 && box.top < window.innerHeight;
        }, first);
        if (!there) problems.push(`the link #${first} does not lead there`);
      }
      const hostile = await page.evaluate(() => window.hostile ?? null);
      if (hostile !== null || opened.hostile !== null) problems.push("a caller's text ran as a script");
      views.push({ name, problems: [...problems, ...closed.problems, ...opened.problems], stops: want.length, charts: closed.charts, findings: closed.findings, contrast: Math.min(closed.contrast, opened.contrast) });
      await context.close();
    }
  }
}
await browser.close();
console.log(JSON.stringify(views));
