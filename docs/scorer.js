// How the search ranks what it finds. A page that answers a question comes before the name of a method that contains
// the word, and before the pages for those who change the library.
var Scorer = {
  score: ([page, title, anchor, description, score]) => {
    if (page.startsWith("howto/") && page !== "howto/index") return score + 6;
    if (page.startsWith("coming-from/")) return score - 4;
    return ["changelog", "contributing", "security", "design"].includes(page) ? score - 8 : score;
  },
  objNameMatch: 9,
  objPartialMatch: 1,
  objPrio: { 0: 3, 1: 0, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
