# SPDX-License-Identifier: Apache-2.0
"""What editors ask of a text: functions of a text and a place, and the server that answers them. Executes nothing."""
