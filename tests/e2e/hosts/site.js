// Runs in a page beside the pages of the site: loads each in a frame, and reports what the browser says of it.

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function load(url, width) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width: ${width}px; height: 900px; border: 0`;
  frame.src = url;
  document.body.append(frame);
  await new Promise((resolve) => frame.addEventListener("load", resolve, { once: true }));
  return frame;
}

// The relative luminance of "rgb(…)", and the contrast of two colours (WCAG 2.2).
function luminance(colour) {
  const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const [red, green, blue] = colour.match(/[\d.]+/g).slice(0, 3).map((part) => linear(part / 255));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}
const isClear = (colour) => colour === "transparent" || /^rgba\(.*, 0\)$/.test(colour);

// Each pair of colours of text and background that an article shows, with an example of its text.
function faint(view) {
  const found = {};
  const texts = view.document.createTreeWalker(view.document.querySelector("article"), NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    if (!text.data.trim() || !text.parentElement.getClientRects().length) continue;
    let behind = text.parentElement;
    while (behind && isClear(view.getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
    const style = view.getComputedStyle(text.parentElement);
    const ground = behind ? view.getComputedStyle(behind).backgroundColor : "rgb(255, 255, 255)";
    if (style.visibility === "visible" && style.opacity !== "0" && contrast(style.color, ground) < 4.5)
      found[`${style.color} on ${ground}`] = text.data.trim().slice(0, 30);
  }
  return found;
}

// By how many pixels the page, or its article, is wider than the window.
const sideways = (page) =>
  Math.max(...[page.documentElement, page.querySelector(".content")].map((each) => each.scrollWidth - each.clientWidth));

function measure(view) {
  const page = view.document;
  const root = page.documentElement;
  const wide = [...page.querySelectorAll("article pre")].filter((box) => box.scrollWidth > box.clientWidth);
  return {
    sideways: sideways(page),
    wide: wide.map((box) => box.textContent.split("\n").sort((a, b) => b.length - a.length)[0]),
    // what is cut at the edge of the column, because no box around it scrolls
    outside: [...page.querySelectorAll("article img, article table")]
      .filter((each) => !each.closest(".table-wrapper") && each.getBoundingClientRect().right > root.clientWidth)
      .map((each) => each.outerHTML.slice(0, 80)),
    headings: [...page.querySelectorAll("article h2")].map((each) => each.textContent.replace(/¶$/, "").replace(/#$/, "")),
    listed: [...page.querySelectorAll(".toc-tree a")].map((each) => each.textContent),
    related: page.querySelectorAll(".related-pages a").length,
    characters: Math.floor((page.querySelector("article").clientWidth - 20) / characterWidth(page)),
  };
}

function characterWidth(page) {
  const box = page.querySelector("article pre");
  if (!box) return 1;
  const ruler = page.createElement("span");
  ruler.textContent = "x".repeat(100);
  ruler.style.cssText = "position: absolute; white-space: pre; visibility: hidden";
  box.append(ruler);
  const width = ruler.getBoundingClientRect().width / 100;
  ruler.remove();
  return width;
}

async function examine(url, widths) {
  const found = { url, widths: {}, faint: {} };
  for (const [name, width] of Object.entries(widths)) {
    const frame = await load(url, width);
    found.widths[name] = measure(frame.contentWindow);
    for (const theme of ["light", "dark"]) {
      frame.contentDocument.body.dataset.theme = theme;
      found.faint[theme] = faint(frame.contentWindow);
      found.widths[name][theme] = sideways(frame.contentDocument);
    }
    frame.remove();
  }
  return found;
}

// The pages that the search of the site shows first for a question, and their titles.
async function search(question) {
  const frame = await load(`/search.html?q=${encodeURIComponent(question)}`, 1200);
  const found = () => [...frame.contentDocument.querySelectorAll("ul.search > li")];
  for (let waited = 0; found().length < 6 && waited < 1500; waited += 50) await wait(50);
  const hits = found().map((hit) => [hit.querySelector("a").getAttribute("href"), hit.querySelector("a").textContent]);
  frame.remove();
  return { question, hits: hits.slice(0, 6) };
}

async function main() {
  const plan = await (await fetch("/plan")).json();
  const report = (result) => fetch("/report", { method: "POST", body: JSON.stringify(result) });
  for (const url of plan.pages) await report(await examine(url, plan.widths).catch((error) => ({ url, error: `${error}` })));
  for (const question of plan.questions) await report(await search(question));
  await report({ done: true });
}
main();
