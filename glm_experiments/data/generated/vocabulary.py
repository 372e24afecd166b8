"""The word lists behind the generated questions: English key -> (English, Chinese)."""

WordList = dict[str, tuple[str, str]]


def _build_list(text: str) -> WordList:
    """`red 红色, blue 蓝色` -> {"red": ("red", "红色"), ...}."""
    pairs = [entry.rsplit(" ", 1) for entry in text.split(", ")]
    return {english: (english, chinese) for english, chinese in pairs}


ANIMALS = _build_list(
    "dog 狗, cat 猫, horse 马, cow 牛, sheep 羊, pig 猪, bird 鸟, fish 鱼, tiger 老虎, "
    "rabbit 兔子, snake 蛇, monkey 猴子, bear 熊, duck 鸭子"
)
FRUITS = _build_list(
    "apple 苹果, banana 香蕉, pear 梨, peach 桃子, grape 葡萄, lemon 柠檬, orange 橙子, melon 甜瓜"
)
COLOURS = _build_list(
    "red 红色, blue 蓝色, green 绿色, yellow 黄色, white 白色, black 黑色, purple 紫色, grey 灰色"
)
THINGS = _build_list(
    "book 书, pen 笔, table 桌子, chair 椅子, door 门, window 窗户, cup 杯子, lamp 灯, clock 钟, "
    "car 车, boat 船, shirt 衬衫, hat 帽子, key 钥匙"
)
NATURE = _build_list(
    "sun 太阳, moon 月亮, star 星星, river 河, mountain 山, sea 海, tree 树, flower 花, rain 雨, "
    "snow 雪, wind 风, cloud 云"
)
WORDS: WordList = {**ANIMALS, **FRUITS, **COLOURS, **THINGS, **NATURE}
CATEGORIES: dict[str, tuple[tuple[str, str], WordList]] = {
    "animal": (("animal", "动物"), ANIMALS),
    "fruit": (("fruit", "水果"), FRUITS),
    "colour": (("colour", "颜色"), COLOURS),
    "thing": (("thing", "物品"), THINGS),
}

COUNTRIES = _build_list(
    "China 中国, Japan 日本, France 法国, Germany 德国, Italy 意大利, Spain 西班牙, Russia 俄罗斯, "
    "Egypt 埃及, India 印度, Greece 希腊, England 英国, Portugal 葡萄牙, Norway 挪威, Sweden 瑞典, "
    "Austria 奥地利, Poland 波兰, Cuba 古巴, Peru 秘鲁, Kenya 肯尼亚, Canada 加拿大, "
    "Thailand 泰国, Vietnam 越南, Iran 伊朗, Mexico 墨西哥"
)
CAPITALS: WordList = dict(
    zip(
        COUNTRIES,
        _build_list(
            "Beijing 北京, Tokyo 东京, Paris 巴黎, Berlin 柏林, Rome 罗马, Madrid 马德里, "
            "Moscow 莫斯科, Cairo 开罗, Delhi 新德里, Athens 雅典, London 伦敦, Lisbon 里斯本, "
            "Oslo 奥斯陆, Stockholm 斯德哥尔摩, Vienna 维也纳, Warsaw 华沙, Havana 哈瓦那, "
            "Lima 利马, Nairobi 内罗毕, Ottawa 渥太华, Bangkok 曼谷, Hanoi 河内, Tehran 德黑兰, "
            "Mexico City 墨西哥城"
        ).values(),
        strict=True,
    )
)

OPPOSITES: tuple[tuple[tuple[str, str], tuple[str, str]], ...] = tuple(
    ((left[0], left[1]), (right[0], right[1]))
    for left, right in (
        (("big", "大"), ("small", "小")),
        (("hot", "热"), ("cold", "冷")),
        (("long", "长"), ("short", "短")),
        (("high", "高"), ("low", "低")),
        (("fast", "快"), ("slow", "慢")),
        (("new", "新"), ("old", "旧")),
        (("good", "好"), ("bad", "坏")),
        (("rich", "富"), ("poor", "穷")),
        (("strong", "强"), ("weak", "弱")),
        (("light", "轻"), ("heavy", "重")),
        (("wet", "湿"), ("dry", "干")),
        (("near", "近"), ("far", "远")),
        (("open", "开"), ("closed", "关")),
        (("deep", "深"), ("shallow", "浅")),
        (("wide", "宽"), ("narrow", "窄")),
        (("true", "真"), ("false", "假")),
    )
)

COLOURED: dict[str, tuple[tuple[str, str], str]] = {
    "banana": (("a banana", "香蕉"), "yellow"),
    "snow": (("snow", "雪"), "white"),
    "grass": (("grass", "草"), "green"),
    "sky": (("the sky", "天空"), "blue"),
    "blood": (("blood", "血"), "red"),
    "coal": (("coal", "煤"), "black"),
    "lemon": (("a lemon", "柠檬"), "yellow"),
    "milk": (("milk", "牛奶"), "white"),
    "leaf": (("a leaf", "树叶"), "green"),
    "sea": (("the sea", "大海"), "blue"),
    "tomato": (("a tomato", "番茄"), "red"),
    "night": (("the night", "黑夜"), "black"),
    "aubergine": (("an aubergine", "茄子"), "purple"),
    "ash": (("ash", "灰烬"), "grey"),
    "mouse": (("a mouse", "老鼠"), "grey"),
    "violet": (("a violet", "紫罗兰"), "purple"),
}

WEEKDAYS = tuple(
    _build_list(
        "Monday 星期一, Tuesday 星期二, Wednesday 星期三, Thursday 星期四, Friday 星期五, "
        "Saturday 星期六, Sunday 星期日"
    ).values()
)
MONTHS = tuple(
    _build_list(
        "January 一月, February 二月, March 三月, April 四月, May 五月, June 六月, July 七月, "
        "August 八月, September 九月, October 十月, November 十一月, December 十二月"
    ).values()
)
MONTH_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""Days of each month in a year that is no leap year."""
