# Owner(s): ["module: optimizer"]

"""Files that need something done first, and errors that say what."""

import copy
import itertools
import re
import warnings
from typing import Any

from _common import (
    annotated,
    build,
    DEVICE_TYPES,
    indexed,
    make_params,
    MATRICES,
    names_of,
    OptimTestCase,
    renamed,
    ROUNDS_BY_ORDER,
    snapshot,
    train,
)
from _describe import describe

import torch
from torch.nn import Parameter, ParameterDict
from torch.optim import AdamW, rename_parameters, SGD
from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_optimizers import optim_db, optims
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


#: What is loaded, made from what a named optimizer returns.
FORMS = {
    "named": lambda state_dict: state_dict,
    "annotated": annotated,
    "indexed": indexed,
    "partial": lambda state_dict: state_dict,
    "state_alone": lambda state_dict: {"state": state_dict["state"]},
}


def _sgd(names: str, size: int = 2) -> SGD:
    """SGD over a parameter for each letter, whose momentum is its place."""
    optimizer = SGD({n: Parameter(torch.ones(size)) for n in names}, momentum=0.9)
    for index, param in enumerate(optimizer.param_groups[0]["params"]):
        optimizer.state[param]["momentum_buffer"] = torch.full((size,), index + 1.0)
    return optimizer


def _momenta(optimizer: SGD) -> dict[str, int]:
    return {
        name: int(state["momentum_buffer"][0])
        for name, state in optimizer.named_state()
    }


def _old(names: str) -> dict[str, Any]:
    return indexed(_sgd(names).state_dict())


def _groups(state_dict: dict[str, Any], *sizes: int) -> dict[str, Any]:
    """The state dict with its params in groups of these sizes."""
    (group,) = state_dict["param_groups"]
    ids = iter(group["params"])
    groups = [{**group, "params": list(itertools.islice(ids, n))} for n in sizes]
    return {**state_dict, "param_groups": groups}


class TestNamesForOldFiles(OptimTestCase):
    """A file without names gets some."""

    @parametrize(
        "given",
        [
            subtest(["a", "b", "c"], "list"),
            subtest(("a", "b", "c"), "tuple"),
            subtest(dict.fromkeys("abc").keys(), "keys"),
            subtest({0: "a", 1: "b", 2: "c"}, "ids"),
            subtest({2: "c", 0: "a", 1: "b"}, "ids_in_another_order"),
        ],
    )
    @parametrize("groups", [subtest([3], "one"), subtest([1, 0, 2], "three")])
    def test_given(self, given, groups):
        old = _groups(_old("xyz"), *groups)
        before = describe(old)
        named = rename_parameters(old, given)
        self.assert_still(old, before)
        self.assertEqual(list(named["state"]), ["a", "b", "c"])
        for group in named["param_groups"]:
            self.assertEqual(group["params"], group["param_names"])
        self.assertEqual(
            [len(group["params"]) for group in named["param_groups"]], groups
        )
        target = _sgd("ncba")
        result = target.load_state_dict(named, strict=False)
        self.assertEqual(tuple(result), (["n"], []))
        self.assertEqual(_momenta(target), {"n": 1, "a": 1, "b": 2, "c": 3})

    def test_names_of_a_model(self):
        named = rename_parameters(_old("xyz"), (name for name in "cab"))
        target = _sgd("abc")
        target.load_state_dict(named)
        self.assertEqual(_momenta(target), {"a": 2, "b": 3, "c": 1})

    def test_unusable_annotations_are_replaced(self):
        state_dict = annotated(_sgd("xyz").state_dict())
        state_dict["param_groups"][0]["param_names"] = ["x"]
        with self.assertRaisesRegex(ValueError, "cannot be used.*give it names"):
            rename_parameters(state_dict, str.upper)
        named = rename_parameters(state_dict, list("abc"))
        self.assertEqual(named["param_groups"][0]["param_names"], ["a", "b", "c"])

    @parametrize(
        "given,error,words",
        [
            subtest((["a", "b"], ValueError, "2 names for 3 parameters"), "few"),
            subtest((list("abcd"), ValueError, "4 names for 3 parameters"), "many"),
            subtest((["a", "b", "a"], ValueError, 'named "a" after'), "duplicates"),
            subtest((["a", 2, "c"], TypeError, "parameter 1 .*type str.*2"), "numbers"),
            subtest(
                ({0: "a", 1: "b"}, ValueError, "only one of the two: 2"), "lacking"
            ),
            subtest(
                (dict(enumerate("abcd")), ValueError, "only one of the two: 3"),
                "unknown",
            ),
            subtest(({"a": "b"}, ValueError, "from their ids.*'a'"), "names_for_names"),
            subtest((str.upper, ValueError, "no parameter names.*list"), "function"),
            subtest((None, TypeError, "NoneType"), "none"),
            subtest(("abc", TypeError, "got str"), "str"),
            subtest((3, TypeError, "got int"), "int"),
        ],
    )
    def test_errors(self, given, error, words):
        old = _old("xyz")
        before = describe(old)
        with self.assertRaisesRegex(error, words):
            rename_parameters(old, given)
        self.assert_still(old, before)

    @parametrize("given", [None, ["a", "b", "c"], "abc", 3])
    @parametrize("make", [subtest(dict, "named"), subtest(annotated, "annotated")])
    def test_a_file_with_names_needs_old_ones(self, given, make):
        with self.assertRaisesRegex(TypeError, "mapping.*or a function, but got"):
            rename_parameters(make(_sgd("abc").state_dict()), given)


class TestErrorsSayTheRemedy(OptimTestCase):
    """What an error says to do is done, and then it works."""

    def _error(self, kind, function, *args, **kwargs):
        with self.assertRaises(kind) as caught:
            function(*args, **kwargs)
        return str(caught.exception)

    @parametrize("make", [subtest(f, f.__name__) for f in (dict, annotated, indexed)])
    @parametrize("pad", [True, False])
    def test_another_size(self, make, pad):
        state_dict = make(copy.deepcopy(_sgd("ab").state_dict()))
        key = list(state_dict["state"])[1]
        target = _sgd("ab")
        target.param_groups[0]["params"][1].data = torch.ones(5)
        text = self._error(ValueError, target.load_state_dict, state_dict)
        self.assertIn('"b"', text)
        self.assertIn("pad the tensors", text)
        if pad:
            momentum = state_dict["state"][key]["momentum_buffer"]
            state_dict["state"][key]["momentum_buffer"] = torch.cat(
                [momentum, torch.zeros(3)]
            )
        else:
            (line,) = re.findall(r"\((del .*)\)", text)
            exec(line, {"state_dict": state_dict})
            self.assertNotIn(key, state_dict["state"])
        target.load_state_dict(state_dict)
        target.step()

    @parametrize("named", [True, False])
    def test_a_whole_checkpoint(self, named):
        target = _sgd("ab")
        checkpoint = {"model": {}, "optim": target.state_dict(), "epoch": 3}
        if named:
            text = self._error(KeyError, target.load_state_dict, checkpoint)
            self.assertIn("no 'param_groups'", text)
            self.assertIn("state_dict['optim']", text)
            target.load_state_dict(checkpoint["optim"])
        else:
            # As on any release.
            target = SGD(target.param_groups[0]["params"])
            text = self._error(KeyError, target.load_state_dict, checkpoint)
            self.assertEqual(text, "'param_groups'")
        text = self._error(KeyError, rename_parameters, checkpoint, str.upper)
        self.assertIn("state_dict['optim']", text)

    @parametrize(
        "theirs,ours",
        [
            subtest(("module.{}.w", "_orig_mod.{}.w"), "both_sides"),
            subtest(("module._orig_mod.{}.w", "{}.w"), "two_wrappers"),
            subtest(("{}.lora.w", "{}.lora.default.w"), "middle"),
            subtest(("{}.lora.default.w", "{}.lora.w"), "middle_of_the_file"),
        ],
    )
    def test_names_that_differ_in_a_part(self, theirs, ours):
        names = {name: ours.format(name) for name in "ab"}
        target = SGD(
            {n: Parameter(torch.ones(2)) for n in names.values()}, momentum=0.9
        )
        state_dict = renamed(
            _sgd("ab").state_dict(), {name: theirs.format(name) for name in "ab"}
        )
        text = self._error(ValueError, target.load_state_dict, state_dict)
        found = re.search(
            r'the state_dict have (nothing|"[^"]*") where names in the optimizer have '
            r'(nothing|"[^"]*")\. (\S+)\(\) can rename',
            text,
        )
        their, own = (
            part.replace("nothing", "").strip('"') for part in found.groups()[:2]
        )
        self.assertEqual(found[3], "torch.optim.rename_parameters")
        if their:
            state_dict = rename_parameters(state_dict, lambda n: n.replace(their, own))
        else:
            self.assertEqual(own, "default.")
            state_dict = rename_parameters(state_dict, lambda n: n[:-1] + own + "w")
        target.load_state_dict(state_dict)
        self.assertEqual(_momenta(target), {names["a"]: 1, names["b"]: 2})

    def test_a_parameter_in_two_groups(self):
        a, b, c = (Parameter(torch.ones(2)) for _ in range(3))
        two = [{"params": [("a", a), ("b", b)]}, {"params": [("c", c), ("b", b)]}]
        words = "some parameters appear in more than one parameter group"
        self.assertEqual(self._error(ValueError, SGD, two), f'{words}: "b"')
        optimizer = SGD({"a": a, "b": b})
        again = {"params": {"x": a, "c": c, "y": b}}
        text = self._error(ValueError, optimizer.add_param_group, again)
        self.assertEqual(text, f'{words}: "x", "y"')
        unnamed = [{"params": [a, b]}, {"params": [b]}]
        self.assertEqual(self._error(ValueError, SGD, unnamed), words)

    def test_a_parameter_dict(self):
        params = ParameterDict({name: Parameter(torch.ones(2)) for name in "ab"})
        more = ParameterDict({"c": Parameter(torch.ones(2))})
        optimizer = SGD(params)
        optimizer.add_param_group({"params": more})
        self.assertEqual(names_of(optimizer), [["a", "b"], ["c"]])
        optimizer = SGD([{"params": params, "lr": 1.0}, {"params": more}])
        self.assertEqual(names_of(optimizer), [["a", "b"], ["c"]])
        for group, given in zip(optimizer.param_groups, (params, more)):
            self.assertTrue(
                all(map(lambda p, q: p is q, group["params"], given.values()))
            )


class TestResult(OptimTestCase):
    """A load says that keys match only if it compared them."""

    @parametrize(
        "make,named,by_name",
        [
            subtest((dict, True, True), "named"),
            subtest((annotated, True, True), "annotated"),
            subtest((indexed, True, False), "indexed"),
            subtest((dict, False, False), "named_into_unnamed"),
            subtest((annotated, False, False), "annotated_into_unnamed"),
            subtest((indexed, False, False), "indexed_into_unnamed"),
        ],
    )
    @parametrize("strict", [True, False])
    def test_text(self, make, named, by_name, strict):
        target = _sgd("ab")
        state_dict = make(target.state_dict())
        if not named:
            target = SGD(target.param_groups[0]["params"])
        result = target.load_state_dict(state_dict, strict)
        self.assertEqual((result.missing_keys, result.unexpected_keys), ([], []))
        missing, unexpected = result
        self.assertEqual([type(missing), type(unexpected)], [list, list])
        for text in (repr(result), str(result)):
            self.assertEqual("All keys matched" in text, by_name)
            self.assertEqual("oaded by position" in text, not by_name)

    def test_names_that_were_not_known(self):
        target = _sgd("ab")
        state_dict = annotated(renamed(target.state_dict(), {"a": "x.a", "b": "x.b"}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = target.load_state_dict(state_dict)
        self.assertIn("oaded by position", str(result))


class TestOtherClasses(OptimTestCase):
    """A file of another class is refused, or good for a step."""

    @optims(optim_db, dtypes=[torch.float32])
    def test_every_pair(self, device, dtype, optim_info):
        target = None
        files = {}
        for info in optim_db:
            params = make_params(info, device, dtype, order=MATRICES)
            source = build(info, params)
            train(info, source, params, range(2))
            files[info.name] = source.state_dict()
        for name, form in itertools.product(files, FORMS):
            about = f"{name}, {form}"
            state_dict = FORMS[form](copy.deepcopy(files[name]))
            # One that refused a file is as before, and takes the next.
            if target is None:
                params = make_params(optim_info, device, dtype, order=MATRICES)
                target = build(optim_info, params)
                train(optim_info, target, params, range(2))
                before = snapshot(target)
            try:
                target.load_state_dict(state_dict, strict=form != "partial")
            except ValueError:
                self.assert_unchanged(target, before)
                # State that is spread over all parameters is none of each.
                if form != "state_alone" or name not in ROUNDS_BY_ORDER:
                    self.assertNotEqual(name, optim_info.name, about)
                continue
            try:
                train(optim_info, target, dict(target.named_parameters()), [2])
            except Exception as error:
                self.fail(f"{about}: {type(error).__name__}: {error}")
            target = None

    def test_what_is_lacking(self):
        params = {name: Parameter(torch.ones(2)) for name in "ab"}
        state_dict = AdamW(params).state_dict()
        target = _sgd("ab")
        before = snapshot(target)
        with self.assertRaisesRegex(
            ValueError, '"momentum", "dampening".*another optimizer class.*state alone'
        ):
            target.load_state_dict(state_dict)
        self.assert_unchanged(target, before)
        # With a default in __setstate__, an option may be lacking.
        for group in target.state_dict()["param_groups"]:
            del group["nesterov"]
            target.load_state_dict({"state": {}, "param_groups": [group]})
        self.assertIs(target.param_groups[0]["nesterov"], False)


instantiate_device_type_tests(TestOtherClasses, globals(), only_for=DEVICE_TYPES)
instantiate_parametrized_tests(TestNamesForOldFiles)
instantiate_parametrized_tests(TestErrorsSayTheRemedy)
instantiate_parametrized_tests(TestResult)


if __name__ == "__main__":
    run_tests()
