"""Descriptions of data sets: what is known before samples are read, without torch.

A data module of this package inherits from the description of its name, such as ``Prepared`` from
``PreparedDescription``. Jobs are composed and checked with the description alone.
"""
