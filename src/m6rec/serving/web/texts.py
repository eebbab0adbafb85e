"""What the pages say, in English and in Chinese; both stand side by side, so none is missing."""

from __future__ import annotations

from collections.abc import Callable

from m6rec.errors import QueryError
from m6rec.serving.web.texts_support import SUPPORT

LANGUAGES = {"en": "English", "zh": "中文"}
Say = Callable[..., str]

TEXTS: dict[str, tuple[str, str]] = {
    "skip": ("Skip to the content", "跳到正文"),
    "explore": ("Explore", "探索"),
    "onboarding": ("Onboarding", "新用户"),
    "items": ("Items", "物品"),
    "models": ("Models", "模型"),
    "operations": ("Operations", "运行"),
    "pages": ("Pages", "页面"),
    "run": ("Run", "模型"),
    "domain": ("Domain", "领域"),
    "all domains": ("All domains", "全部领域"),
    "search": ("Search", "搜索"),
    "leave": ("Sign out", "退出"),
    # Errors
    "wrong": ("This did not work", "出错了"),
    "missing": ("There is no such page", "没有这个页面"),
    "missing text": (
        "It may have been removed, or the address has a slip in it.",
        "它可能已被删除，或者地址有误。",
    ),
    "no item": ('There is no item "{key}".', "没有物品「{key}」。"),
    "no run": ('There is no run "{key}".', "没有模型「{key}」。"),
    "back": ("Back to the start", "回到首页"),
    "origin": (
        "This form was sent from another site, so nothing was changed.",
        "这个表单来自其他网站，因此没有做任何更改。",
    ),
    # Key
    "key title": ("This service asks for a key", "此服务需要密钥"),
    "key text": (
        "Enter an API key once; this browser keeps it until you sign out. "
        "Make one with m6rec keys create.",
        "输入一次 API 密钥即可，浏览器会保存到你退出为止。可用 m6rec keys create 创建。",
    ),
    "key": ("API key", "API 密钥"),
    "key wrong": ("That key is not valid.", "密钥无效。"),
    "enter": ("Continue", "继续"),
    # Explore
    "explore text": (
        "What is recommended to whom, and why. Every click on a heart counts in the next list.",
        "向谁推荐什么，以及为什么。每次点按心形，都会计入下一份列表。",
    ),
    "who": ("Who asks", "向谁推荐"),
    "a user": ("A user", "用户"),
    "find user": ("Find a user", "查找用户"),
    "some users": ("Some users, from few events to many", "一些用户，事件由少到多"),
    "found users": ("Users found", "找到的用户"),
    "no users": (
        "No user's key begins so. You can still ask for somebody new.",
        "没有以此开头的用户，但仍可以作为新用户提问。",
    ),
    "ask new": ('Ask as the new user "{key}"', "作为新用户「{key}」提问"),
    "or a history": ("Or a history of your own", "或者自己的历史"),
    "find title": ("Find titles that were liked", "查找喜欢过的物品"),
    "no titles": ("No title holds these words.", "没有标题包含这些词。"),
    "found titles": ("Titles found", "找到的标题"),
    "history": ("History", "历史"),
    "history of": ("History of {user}", "{user} 的历史"),
    "own history": ("Your history; it is not stored", "你的历史（不会保存）"),
    "no events": ("Nothing yet.", "还没有内容。"),
    "remove": ("Remove {title}", "移除 {title}"),
    "start over": ("Start over", "重新开始"),
    "for": ("Recommended to {user}", "推荐给 {user}"),
    "for history": ("Recommended for this history", "根据这段历史的推荐"),
    "for new": ("Recommended to somebody new", "推荐给新用户"),
    "counted": ("{n} events count", "计入 {n} 个事件"),
    "liked": ("I liked {title}", "我喜欢 {title}"),
    "like hint": ("I liked this", "我喜欢"),
    "new": ("new", "新"),
    "up": ("up {n}", "上升 {n}"),
    "down": ("down {n}", "下降 {n}"),
    "explored": ("tried at random", "随机尝试"),
    "score": ("score {score}", "得分 {score}"),
    "unexplained": ("Not explained", "未解释"),
    "lambda": ("λ, how much each part counts", "λ：各部分的权重"),
    "nothing left": ("Nothing is left to recommend here.", "这里没有可推荐的了。"),
    "more domains": (
        "{n} more domains; choose one above.",
        "另有 {n} 个领域，请在上方选择。",
    ),
    "stored": ("Stored: {user} liked {title}.", "已保存：{user} 喜欢 {title}。"),
    "starting point": ("starting point", "起点"),
    "popularity": ("popularity", "受欢迎程度"),
    "seed": ("suits new users", "适合新用户"),
    # Onboarding
    "onboarding text": (
        "Somebody new: choose what you like, and the lists below follow at once.",
        "新来的用户：选出喜欢的，下面的列表立即跟着变化。",
    ),
    "choose": ("What do you like?", "你喜欢哪些？"),
    "chosen": ("{n} chosen", "已选 {n} 个"),
    "your lists": ("For you", "为你推荐"),
    "none chosen": (
        "Nothing is chosen yet; these are the lists of somebody new.",
        "还没有选择；这是给新用户的列表。",
    ),
    "keep as": ("Keep as user", "保存为用户"),
    "keep": ("Keep and go on", "保存并继续"),
    "keep text": (
        "Stores what you chose as events of this user.",
        "把所选内容保存为该用户的事件。",
    ),
    "keep wrong": (
        "Choose something first, and give the user a name.",
        "请先选择一些物品，并为用户起名。",
    ),
    "update": ("Update the lists", "更新列表"),
    # Items
    "items text": (
        "{n} items in {d} domains. Find one, and see what goes with it in each of them.",
        "{d} 个领域，共 {n} 个物品。找到一个，看看各领域里与它相配的物品。",
    ),
    "find item": ("Find an item by its title", "按标题查找物品"),
    "best known": ("Best known", "最广为人知"),
    "found": ("{n} found", "找到 {n} 个"),
    "title": ("Title", "标题"),
    "events": ("Events", "事件"),
    "of run": ("Events in the run", "模型中的事件"),
    "text": ("Text", "文字"),
    "hidden": ("Hidden: no list shows it", "隐藏：不会出现在列表中"),
    "goes with": ("What goes with it", "与它相配的"),
    "in domain": ("In {domain}", "领域 {domain}"),
    "unknown yet": (
        "The model that answers does not know this item.",
        "当前模型不认识这个物品。",
    ),
    "explore with": ("Explore with this liked", "以喜欢它为起点探索"),
    # Models
    "models text": (
        "The runs of the folder, the newest first. One of them answers.",
        "文件夹中的模型，最新的在前；其中之一正在回答。",
    ),
    "answers": ("answers now", "正在回答"),
    "made": ("Made", "时间"),
    "kind": ("Kind", "种类"),
    "trained on": ("Trained on", "训练事件"),
    "compare": ("Compare", "比较"),
    "compare runs": ("Compare two runs", "比较两个模型"),
    "first run": ("Run A", "模型 A"),
    "second run": ("Run B", "模型 B"),
    "compare text": (
        "Each test row is asked of both. B − A with its 95 % interval, users drawn with "
        "replacement; p is corrected for the number of slices.",
        "每个测试行都向两者提问。B − A 及其 95% 区间由用户重抽样得出；p 值按分组数校正。",
    ),
    "one run": ("A second run is needed to compare.", "需要另一个模型才能比较。"),
    "slice": ("Slice", "分组"),
    "rows": ("Rows", "行数"),
    "difference": ("B − A", "B − A"),
    "interval": ("95 % interval", "95% 区间"),
    "metric": ("Metric", "指标"),
    "metrics": ("How good it is", "效果如何"),
    "metrics text": (
        "{rows} test rows (a user in a domain), protocol {protocol}. Lines are 95 % intervals, "
        "users drawn with replacement; all lines of a column have one scale.",
        "{rows} 个测试行（一个领域里的一位用户），方案 {protocol}。线段为 95% 区间，"
        "由用户重抽样得出；同一列的刻度相同。",
    ),
    "by domain": ("By domain", "按领域"),
    "by slice": ("By history and other slices", "按历史长短等分组"),
    "model": ("Model", "模型"),
    "all": ("all", "全部"),
    "activity": ("{n} in the history", "历史 {n} 个"),
    "cold items": ("cold items", "冷门新物品"),
    "warm items": ("warm items", "已知物品"),
    "cold users": ("cold users", "无历史用户"),
    "warm users": ("warm users", "有历史用户"),
    "no metrics": ("This run was saved without metrics.", "这个模型没有保存指标。"),
    "curves": ("Learning curves", "学习曲线"),
    "curves text": (
        "What the log of the training recorded, step by step.",
        "训练日志逐步记录的数值。",
    ),
    "no curves": ("The log of this run records no steps.", "这个模型的日志没有记录步骤。"),
    "step": ("step", "步"),
    "lambda text": (
        "By domain, and by how many items of it are in the history, or for new items, where "
        "theirs differ; learned on a holdout.",
        "按领域和历史中该领域的物品数（以及新物品，若不同）；由留出数据学得。",
    ),
    "omega": ("ω, how much one domain trusts another", "ω：一个领域对另一个的信任"),
    "omega text": (
        "Kept where it helped on the holdout; 0 = the domain does not listen to that one.",
        "在留出数据上有帮助才保留；0 表示不采纳对方。",
    ),
    "ridge": ("A, how far attributes alone tell a taste", "A：仅凭属性能推断多少口味"),
    "ridge text": (
        "The ridge that served users best who were held out whole; the larger it is, the closer "
        "a new user is to the average one.",
        "对整体留出的用户效果最好的岭参数；越大，新用户越接近平均用户。",
    ),
    "from": ("from {domain}", "来自 {domain}"),
    "used for": ("used for", "用于"),
    "all users": ("all users", "全部用户"),
    "only users without history there": (
        "only users without history there",
        "仅在该领域没有历史的用户",
    ),
    "new items": ("new items", "新物品"),
    "not loaded": ("λ and ω cannot be shown: {why}", "无法显示 λ 和 ω：{why}"),
    "data": ("Data", "数据"),
    "versions": ("Made with", "制作版本"),
    "seed of": ("Seed", "随机种子"),
    # Operations
    "operations text": (
        "What this service does now. Figures are of all its workers since they started.",
        "服务的当前状态。数字为所有工作进程启动以来的合计。",
    ),
    "pause": ("Pause", "暂停"),
    "resume": ("Go on", "继续"),
    "paused": ("Paused", "已暂停"),
    "polled": ("Renewed every 3 seconds", "每 3 秒更新"),
    "model age": ("Age of the model", "模型年龄"),
    "requests": ("Requests", "请求"),
    "answers given": ("Lists given", "已给列表"),
    "events taken": ("Events taken in", "已收事件"),
    "without history": ("To somebody without history", "给没有历史的人"),
    "up since": ("Up for", "已运行"),
    "errors": ("Errors", "错误"),
    "latency": ("Latency by route", "各路径的延迟"),
    "latency text": (
        "Milliseconds, read off the buckets of a histogram, as /metrics has them.",
        "毫秒，由直方图的区间读出，与 /metrics 相同。",
    ),
    "route": ("Route", "路径"),
    "median": ("median", "中位数"),
    "spread": ("Spread", "分布"),
    "newest events": ("Newest events", "最新事件"),
    "when": ("When", "时间"),
    "user": ("User", "用户"),
    "item": ("Item", "物品"),
    "type": ("Type", "类型"),
    "value": ("Value", "数值"),
    "hits": ("What became of what was recommended", "推荐之后"),
    "hits text": (
        "Items shown in the last 7 days, and those that an event followed which names their list.",
        "最近 7 天展示的物品，以及带有该列表编号的后续事件。",
    ),
    "shown": ("Shown", "展示"),
    "followed": ("Followed by an event", "有后续事件"),
    "rate": ("Rate", "比率"),
    "arm": ("Arm", "实验组"),
    "trial": ("Two runs on trial", "两个模型的对照实验"),
    "trial text": (
        "Requests of the last 7 days that an event followed, with 95 % intervals by a bootstrap "
        "over users.",
        "最近 7 天有后续事件的请求占比，95% 区间由用户重抽样得出。",
    ),
    "users": ("Users", "用户数"),
    "a is better": ("a is better", "a 更好"),
    "b is better": ("b is better", "b 更好"),
    "too few users yet": ("too few users yet", "用户还太少"),
    "no difference that is outside the interval": (
        "no difference that is outside the interval",
        "差异未超出区间",
    ),
    "no hits": ("Nothing was recommended yet.", "还没有推荐过。"),
    "unknown": ("unknown", "未知"),
    "now": ("just now", "刚刚"),
    "seconds": ("{n} s ago", "{n} 秒前"),
    "minutes": ("{n} min ago", "{n} 分钟前"),
    "hours": ("{n} h ago", "{n} 小时前"),
    "days": ("{n} d ago", "{n} 天前"),
    "for seconds": ("{n} s", "{n} 秒"),
    "for minutes": ("{n} min", "{n} 分钟"),
    "for hours": ("{n} h", "{n} 小时"),
    "for days": ("{n} d", "{n} 天"),
    **SUPPORT,
}


def speaker(language: str) -> Say:
    """Return a function from the key of a text to the text, with its places filled in."""
    if language not in LANGUAGES:
        raise QueryError(f'language "{language}": the pages speak {" and ".join(LANGUAGES)}')
    place = list(LANGUAGES).index(language)

    def say(text: str, /, **values: object) -> str:
        return TEXTS[text][place].format(**values)

    return say
