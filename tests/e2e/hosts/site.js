// Runs in a page beside the pages of the site: loads each in a frame, and reports what the browser says of it.

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function load(url, width, theme = "normal") {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width: ${width}px; height: 900px; border: 0; color-scheme: ${theme}`;
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

// Each pair of colours of text and background that an article shows, with an example of its text; and code that is
// underlined as if it were a link.
function legibility(view) {
  const faint = {};
  const underlined = new Set();
  const texts = view.document.createTreeWalker(view.document.querySelector("article"), NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    if (!text.data.trim() || !text.parentElement.getClientRects().length) continue;
    let behind = text.parentElement;
    while (behind && isClear(view.getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
    const style = view.getComputedStyle(text.parentElement);
    const ground = behind ? view.getComputedStyle(behind).backgroundColor : "rgb(255, 255, 255)";
    if (style.visibility === "visible" && style.opacity !== "0" && contrast(style.color, ground) < 4.5)
      faint[`${style.color} on ${ground}`] = text.data.trim().slice(0, 30);
    if (style.textDecorationLine === "underline" && text.parentElement.closest("pre") && !text.parentElement.closest("a"))
      underlined.add(text.data);
  }
  return { faint, underlined: [...underlined] };
}

// The texts of a picture in a theme: their contrast to what is behind them, and their size in the page.
async function lettering(picture, theme, page) {
  const frame = await load(picture.src, 900, theme);
  const view = frame.contentWindow;
  const root = view.document.documentElement;
  const scale = picture.clientWidth / root.viewBox.baseVal.width;
  const shapes = [...root.querySelectorAll("rect, circle, path")].filter((each) => !each.closest("defs, [clip-path]"));
  const behind = (text) => {
    const { left, right, top, bottom } = text.getBoundingClientRect();
    const [x, y] = [(left + right) / 2, (top + bottom) / 2];
    const covers = (shape) => {
      const box = shape.getBoundingClientRect();
      const before = shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING;
      return before && box.left < x && x < box.right && box.top < y && y < box.bottom;
    };
    const fills = shapes.filter(covers).map((shape) => view.getComputedStyle(shape).fill);
    return fills.filter((fill) => fill.startsWith("rgb(")).pop() || page;
  };
  const texts = [...root.querySelectorAll("text")].filter((each) => each.textContent.trim());
  const found = texts.map((text) => {
    const style = view.getComputedStyle([...text.querySelectorAll("tspan"), text][0]);
    return [text.textContent.trim().slice(0, 30), contrast(style.fill, behind(text)), parseFloat(style.fontSize) * scale];
  });
  frame.remove();
  return found;
}

// By how many pixels the page, or its article, is wider than the window.
const sideways = (page) =>
  Math.max(...[page.documentElement, page.querySelector(".content")].map((each) => each.scrollWidth - each.clientWidth));

// Whether what sticks out of an element can be reached, because a box around it is scrolled.
function scrolls(view, element) {
  for (let each = element; each.tagName !== "ARTICLE"; each = each.parentElement)
    if (view.getComputedStyle(each).overflowX === "auto") return true;
  return false;
}

// Headings that are higher than the lines of their text.
function lengthened(page) {
  return [...page.querySelectorAll("article :is(h1, h2, h3)")].filter((heading) => {
    const text = page.createRange();
    text.setStart(heading, 0);
    text.setEndBefore(heading.querySelector(".headerlink") || heading.lastChild);
    return heading.clientHeight > text.getBoundingClientRect().height * 1.5;
  });
}

// Buttons in the bar at the top of a telephone that are hard to hit: too small, or one upon the other.
function crowded(view) {
  const shown = [...view.document.querySelectorAll(".mobile-header :is(label, button) svg")].filter(
    (each) => view.getComputedStyle(each).display !== "none" && each.clientWidth,
  );
  const boxes = shown.map((each) => each.getBoundingClientRect()).sort((a, b) => a.left - b.left);
  return boxes.filter((box, i) => box.width < 24 || box.height < 24 || (i && box.left < boxes[i - 1].right + 8)).length;
}

function measure(view) {
  const page = view.document;
  const root = page.documentElement;
  const wide = [...page.querySelectorAll("article pre")].filter((box) => box.scrollWidth > box.clientWidth);
  return {
    sideways: sideways(page),
    wide: wide.map((box) => box.textContent.split("\n").sort((a, b) => b.length - a.length)[0]),
    // what is cut at the edge of the column, because no box around it scrolls
    outside: [...page.querySelectorAll("article img, article table")]
      .filter((each) => each.getBoundingClientRect().right > root.clientWidth && !scrolls(view, each))
      .map((each) => each.outerHTML.slice(0, 80)),
    scrolled: [...page.querySelectorAll(".table-wrapper")]
      .filter((each) => each.scrollWidth > each.clientWidth)
      .map((each) => each.querySelector("tr").textContent.trim().replaceAll("\n", " ")),
    // cells of more than a line of text, too narrow for more than a few words in each line
    squeezed: [...page.querySelectorAll("article td")]
      .filter((cell) => cell.textContent.length > 60 && cell.clientWidth < 120)
      .map((cell) => cell.textContent.trim()),
    lengthened: lengthened(page).map((each) => each.textContent),
    crowded: crowded(view),
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

// Colours are the same at each width, and the texts of pictures the smallest at the last, so both are measured once.
async function examine(url, widths) {
  const found = { url, widths: {}, legibility: {}, lettering: {} };
  const last = Object.keys(widths).pop();
  for (const [name, width] of Object.entries(widths)) {
    const frame = await load(url, width);
    const [view, page] = [frame.contentWindow, frame.contentDocument];
    found.widths[name] = measure(view);
    for (const theme of ["light", "dark"]) {
      page.body.dataset.theme = theme;
      found.widths[name][theme] = sideways(page);
      if (name !== last) continue;
      const ground = view.getComputedStyle(page.body).backgroundColor;
      found.legibility[theme] = legibility(view);
      found.lettering[theme] = [];
      for (const picture of page.querySelectorAll("article img"))
        found.lettering[theme].push(...(await lettering(picture, theme, ground)));
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
